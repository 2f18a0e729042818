"""Alternating unimodal adaptation: the modalities take turns in learning through a shared head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.options import choice
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Run, StepContext
from equipoise.methods.shared.turns import WeighsTurns
from equipoise.models import BalancedModel, MultimodalModel, SharedFusion, with_fusion
from equipoise.types import Batch


class WeightedSharedFusion(SharedFusion):
    """A shared head with fixed weights of the modalities: `u = sum_m w_m u^m`.

    Args:
        weights: modality to weight; divided by their sum.
    """

    name = ""

    def __init__(self, widths: Mapping[str, int], num_classes: int, weights: Mapping[str, float]) -> None:
        super().__init__(widths, num_classes)
        total = sum(weights.values())
        self._weights = [weights[m] / total for m in self.modalities]

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        parts = zip(self._weights, self.modalities, self.ordered(z), strict=True)
        return torch.stack([w * self.own_logits(m, feature) for w, m, feature in parts]).sum(dim=0)


def absorb(p: Tensor, r: Tensor, a: float) -> Tensor:
    """Return `P - k k^T / (a + r^T k)`, `k = P r`: the matrix that suppresses the direction of `r [d]`.

    `P [d, d]` is symmetric, with eigenvalues in (0, 1]. The smaller `a`, the less is kept along `r`.
    """
    k = p @ r
    return p - torch.outer(k, k) / (a + r @ k)


@dataclass
class MLA(WeighsTurns):
    """Take one optimiser step for each modality of a batch: `L_m = CE(h(z^m), y)` with one head `h` for all.

    With `projection="rls"` the gradient of the head's weight is projected, `dW <- dW P_m`. `P_m` is initially
    the identity and absorbs (`absorb`) the mean input of the head in the earlier steps of the other
    modalities, with `a = 0.1^(1 + j/J)` in batch j of J. Neither the bias nor an encoder is projected.
    Inference weighs the logits of each sample by their certainty (`SharedFusion`, `entropy`).

    Attributes:
        projection: `rls`, or `none`, as in the released code.
        memory: the steps that `P_m` absorbs, those of the `others` or of `all`.
        reset: whether `P_m` is reset at the start of each epoch.
        weights: modality to its weight at inference; empty is by certainty.
    """

    projection: str = choice("rls", "none")
    memory: str = choice("others", "all")
    reset: bool = False

    name = "mla"
    summary = "one modality after the other, through a shared head with projected gradients"
    source = "Zhang, Yoon, Bansal, Yao, CVPR 2024, arXiv 2311.10707"
    bibtex = ("zhang2024multimodal",)
    cost = "one optimiser step per modality, and a matrix of the head's width squared"
    requires = Requirements()
    experimental = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._p: Tensor | None = None
        self._batch = 0

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the encoders with a shared head, without blocks of intermediate fusion."""
        widths, classes = reference.feature_widths(), reference.num_outputs
        fusion = (
            WeightedSharedFusion(widths, classes, self.weights)
            if self.weights
            else SharedFusion(widths, classes, combine="entropy")
        )
        if "mid_fusion" in reference.capabilities:
            # Modalities that are trained in turns do not exchange signals.
            return MultimodalModel({m: reference.encoder_module(m) for m in reference.modalities}, fusion)
        return with_fusion(reference, fusion, classes)

    def setup(self, run: Run) -> None:
        """Start from the identity."""
        if self.projection == "rls":
            rows = len(run.model.modalities) if self.memory == "others" else 1
            wide = torch.float32 if run.device.type == "mps" else torch.float64
            self._p = torch.eye(_head(run).width, dtype=wide, device=run.device).repeat(rows, 1, 1)

    def epoch_start(self, run: Run) -> None:
        """Restart the count of batches."""
        self._batch = 0
        if self.reset:
            self.setup(run)

    def train_step(self, batch: Batch, run: Run) -> Tensor:
        """Take a step for each modality; return the mean of their losses."""
        losses = [self.standard_step(StepContext(run, batch, active=(m,))) for m in self.turns(run)]
        self._batch += 1
        return torch.stack(losses).mean()

    def fuse(self, z: dict[str, Tensor], context: StepContext) -> Tensor:
        """Return the shared head's logits for the active modality."""
        (modality,) = context.active or ()
        return _head(context.run).own_logits(modality, z[modality])

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the loss of the active modality."""
        return {"shared": joint_loss(context)}

    @torch.no_grad()
    def after_backward(self, context: StepContext) -> None:
        """Project the gradient of the head, and then absorb its present input."""
        (modality,) = context.active or ()
        head = _head(context.run)
        gradient = cast("nn.Linear", head.classifier).weight.grad
        if self._p is None or gradient is None:
            return
        p, own = self._p, context.run.model.modalities.index(modality)
        gradient.copy_(gradient.to(p) @ p[own if self.memory == "others" else 0])
        with context.run.autocast():  # the input of the head, in the same precision
            read = head.common(modality, context.z[modality])
        r = read.to(p).mean(dim=0)
        a = 0.1 ** (1 + min(self._batch / max(context.run.steps_per_epoch, 1), 1))
        for row in range(len(p)):
            if self.memory == "all" or row != own:
                p[row] = absorb(p[row], r, a)

    def state_dict(self) -> dict[str, Any]:
        """Return the projections."""
        return {"batch": self._batch} if self._p is None else {"batch": self._batch, "p": self._p.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the projections."""
        self._batch = state["batch"]
        if self._p is not None:
            self._p.copy_(state["p"])


def _head(run: Run) -> SharedFusion:
    return cast("SharedFusion", run.model.fusion)
