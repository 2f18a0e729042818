"""One training step in progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from equipoise.types import Batch, EquipoiseError

if TYPE_CHECKING:
    from equipoise.methods.core.run import Run


class StepContext:
    """What the hooks of a step share.

    Attributes:
        run: the training.
        batch: the batch, on the run's device.
        active: the modalities that take part in this pass, None for all (methods that train one modality
            after the other).
        features: modality name to feature `[B, d_m]` as encoded, attached to the graph, once the model has
            run; what scores, distillation and losses on one modality read.
        z: the same as the fusion reads them, once they have been edited (parts of them dropped, say).
        u: joint logits `[B, C]`, once the model has run.
    """

    def __init__(self, run: Run, batch: Batch, active: tuple[str, ...] | None = None) -> None:
        self.run, self.batch, self.active = run, batch, active
        self.features: dict[str, Tensor] = {}
        self.z: dict[str, Tensor] = {}
        self.u: Tensor = torch.empty(0)

    def unimodal_logits(
        self,
        source: str = "slice",
        *,
        detached: bool = False,
        head_grad: bool = True,
        heads: Mapping[str, nn.Module] | None = None,
    ) -> dict[str, Tensor]:
        """Return `u^m [B, C]` of each modality by a source of `equipoise.models.unimodal_logits`.

        Args:
            source: where the logits come from.
            detached: give scores that carry no gradient.
            head_grad: whether gradients reach the head that is read.
            heads: for the source `aux`, modality to head.
        """
        from equipoise.models import unimodal_logits

        if not self.features:
            raise EquipoiseError(
                "the model has not run in this step; ask for unimodal logits after encoding."
            )
        with self.run.autocast(), torch.set_grad_enabled(torch.is_grad_enabled() and not detached):
            z = self.features
            if detached:
                z = {name: feature.detach() for name, feature in z.items()}
            return unimodal_logits(
                self.run.model, z, source, batch=self.batch, heads=heads, head_grad=head_grad
            )
