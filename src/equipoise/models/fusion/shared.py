"""One head that reads every modality (MLA: Zhang, Yoon, Bansal, Yao, CVPR 2024, arXiv 2311.10707)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from equipoise.models.fusion.base import Fusion
from equipoise.models.options import one_of, positive, require_modalities

COMBINATIONS = ("mean", "sum", "entropy")


class SharedFusion(Fusion):
    """Read every modality with the same head and combine the logits.

    With `u^m = h(c_m(z^m))`, where `c_m` is the identity or, if the widths differ, a projection without a
    bias, the joint logits are

    - `mean`: `mean_m u^m`;
    - `sum`: `sum_m u^m`;
    - `entropy`: `sum_m omega^m u^m`, weighted by the certainty for each sample (`entropy_weights`).

    Args:
        combine: `mean`, `sum` or `entropy`.
        width: input width of the head; 0 is the largest of `widths`.
        hidden: units of a hidden layer with a ReLU; 0 is a linear head.

    Attributes:
        classifier: the head `h`, `[B, width]` to `[B, C]`.
        width: input width of the head.
    """

    name: ClassVar[str] = "shared"

    def __init__(
        self,
        widths: Mapping[str, int],
        num_classes: int,
        *,
        combine: str = "mean",
        width: int = 0,
        hidden: int = 0,
    ) -> None:
        super().__init__(widths, num_classes)
        self.combine = one_of("combine", combine, COMBINATIONS)
        self.width = max(self.widths.values()) if width == 0 else positive("width", width)
        self.projections = nn.ModuleList(_projection(d, self.width) for d in self.widths.values())
        self.classifier: nn.Module = nn.Linear(self.width, self.num_classes)
        if hidden != 0:
            units = positive("hidden", hidden)
            layers = (nn.Linear(self.width, units), nn.ReLU(), nn.Linear(units, self.num_classes))
            self.classifier = nn.Sequential(*layers)

    def common(self, modality: str, z: Tensor) -> Tensor:
        """Return the head's input `[B, width]` for the feature `[B, d_m]` of one modality.

        Raises:
            ModelError: unknown modality, or `z` has another width.
        """
        require_modalities([modality], self.modalities, "the fusion has no modality")
        self.require_width_of(modality, z)
        feature: Tensor = self.projections[self.modalities.index(modality)](z)
        return feature

    def own_logits(self, modality: str, z: Tensor) -> Tensor:
        """Return the logits `u^m` `[B, C]` for the feature `[B, d_m]` of one modality; see `common`."""
        logits: Tensor = self.classifier(self.common(modality, z))
        return logits

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        pairs = zip(self.modalities, self.ordered(z), strict=True)
        logits = torch.stack([self.own_logits(m, feature) for m, feature in pairs])
        if self.combine == "entropy":
            return (entropy_weights(logits)[:, :, None] * logits).sum(dim=0)
        return logits.mean(dim=0) if self.combine == "mean" else logits.sum(dim=0)


def entropy_weights(logits: Tensor) -> Tensor:
    """Weigh the modalities of each sample by certainty: `omega = softmax_m(-H(softmax(u^m)))`.

    The logits of all modalities are `[M, B, C]`; the weights `[M, B]` sum to one over the modalities. Those
    of a sample do not depend on other samples, and are all `1 / M` if the entropies are equal.
    """
    # The logarithm stays finite if a probability underflows to zero, so that 0 * log 0 does not occur.
    log_p = logits.log_softmax(dim=2)
    return (log_p.exp() * log_p).sum(dim=2).softmax(dim=0)


def _projection(width: int, common: int) -> nn.Module:
    return nn.Identity() if width == common else nn.Linear(width, common, bias=False)
