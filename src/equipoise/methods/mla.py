"""Alternating unimodal adaptation: one modality after the other learns through a shared head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from equipoise.methods.core.method import Method, joint_loss
from equipoise.methods.core.run import Run
from equipoise.methods.core.step import StepContext
from equipoise.methods.shared.option_checks import check_choice, check_number
from equipoise.models import MultimodalModel, SharedFusion, with_fusion
from equipoise.types import Batch, UnknownNameError, UsageError

if TYPE_CHECKING:
    from equipoise.models import BalancedModel

PROJECTIONS = ("rls", "none")
MEMORIES = ("others", "all")


class WeightedSharedFusion(SharedFusion):
    """A shared head whose answers are combined by weights: `u = sum_m w_m u^m`.

    Args:
        widths: modality to feature width `d_m`, in the model's order.
        num_classes: `C`.
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
    """Return `P - k k^T / (a + r^T k)`, `k = P r`: the matrix that takes less of what lies along `r`.

    Args:
        p: `[d, d]`, symmetric, with eigenvalues in (0, 1].
        r: `[d]`.
        a: how much is left along `r`; none as it goes to zero.
    """
    k = p @ r
    return p - torch.outer(k, k) / (a + r @ k)


@dataclass
class MLA(Method):
    """Take one optimiser step for each modality of a batch: `L_m = CE(h(z^m), y)` with one head `h` for all.

    With `projection="rls"` the gradient of the head's weight is projected, `dW <- dW P_m`, where `P_m`, at
    first the identity, has absorbed (`absorb`) the mean of what the head read in the earlier steps of the
    other modalities, with `a = 0.1^(1 + j/J)` in batch j of J. Neither its bias nor an encoder is projected.
    Inference weighs the answers of each sample by their certainty (`SharedFusion`, `entropy`).

    Attributes:
        projection: `rls`, or `none`, which is what the released code does.
        memory: whose steps `P_m` absorbs, those of the `others` or of `all`.
        reset: forget at the start of each epoch what was absorbed.
        order: the modalities in the order of their steps; empty is the model's.
        weights: modality to its weight at inference; empty is by certainty.
    """

    projection: str = "rls"
    memory: str = "others"
    reset: bool = False
    order: list[str] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)

    name = "mla"
    family = "loop"
    summary = "one modality after the other, through a shared head with projected gradients"
    source = "Zhang, Yoon, Bansal, Yao, CVPR 2024, arXiv 2311.10707"
    cost = "an optimiser step a modality, and a matrix of the head's width squared"
    experimental = True
    replaces_loss = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("projection", self.projection, PROJECTIONS)
        check_choice("memory", self.memory, MEMORIES)
        for modality, weight in self.weights.items():
            check_number(f"the weight of {modality!r}", weight)
        if self.weights and not any(self.weights.values()):
            raise UsageError("all weights are zero; one at least must be above it.")
        self._p: Tensor | None = None
        self._batch = 0

    def check(self, model: BalancedModel) -> None:
        """Refuse an order or weights that do not name the modalities of the data."""
        super().check(model)
        for option, names in (("order", self.order), ("weights", list(self.weights))):
            for modality in names:
                if modality not in model.modalities:
                    raise UnknownNameError("modality", modality, model.modalities)
            if names and sorted(names) != sorted(model.modalities):
                raise UsageError(
                    f"{option} names {', '.join(names)}; mla needs each modality once: "
                    f"{', '.join(model.modalities)}."
                )

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the encoders with a shared head; blocks of intermediate fusion are left out."""
        widths, classes = reference.feature_widths(), reference.num_outputs
        fusion = (
            WeightedSharedFusion(widths, classes, self.weights)
            if self.weights
            else SharedFusion(widths, classes, combine="entropy")
        )
        if "mid_fusion" in reference.capabilities:
            # Modalities that are trained apart have nothing to tell each other on the way.
            return MultimodalModel({m: reference.encoder_module(m) for m in reference.modalities}, fusion)
        return with_fusion(reference, fusion, classes)

    def setup(self, run: Run) -> None:
        """Start with nothing absorbed."""
        if self.projection == "rls":
            rows = len(run.model.modalities) if self.memory == "others" else 1
            wide = torch.float32 if run.device.type == "mps" else torch.float64
            self._p = torch.eye(head_of(run).width, dtype=wide, device=run.device).repeat(rows, 1, 1)

    def epoch_start(self, run: Run) -> None:
        """Count the batches of the epoch anew."""
        self._batch = 0
        if self.reset:
            self.setup(run)

    def train_step(self, batch: Batch, run: Run) -> Tensor:
        """Take a step for each modality; return the mean of their losses."""
        losses = [
            self.standard_step(StepContext(run, batch, active=(m,)))
            for m in self.order or run.model.modalities
        ]
        self._batch += 1
        return torch.stack(losses).mean()

    def fuse(self, z: dict[str, Tensor], context: StepContext) -> Tensor:
        """Return the shared head's answer to the modality whose step it is."""
        (modality,) = context.active or ()
        return head_of(context.run).own_logits(modality, z[modality])

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the loss of the modality whose step it is."""
        return {"shared": joint_loss(context)}

    @torch.no_grad()
    def after_backward(self, context: StepContext) -> None:
        """Project the gradient of the head, and then absorb what the head has just read."""
        (modality,) = context.active or ()
        head = head_of(context.run)
        gradient = cast("nn.Linear", head.classifier).weight.grad
        if self._p is None or gradient is None:
            return
        p, own = self._p, context.run.model.modalities.index(modality)
        gradient.copy_(gradient.to(p) @ p[own if self.memory == "others" else 0])
        with context.run.autocast():  # what the head has read, in the precision in which it did
            read = head.common(modality, context.z[modality])
        r = read.to(p).mean(dim=0)
        a = 0.1 ** (1 + min(self._batch / max(context.run.steps_per_epoch, 1), 1))
        for row in range(len(p)):
            if self.memory == "all" or row != own:
                p[row] = absorb(p[row], r, a)

    def state_dict(self) -> dict[str, Any]:
        """Return what was absorbed."""
        return {"batch": self._batch} if self._p is None else {"batch": self._batch, "p": self._p.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what was absorbed."""
        self._batch = state["batch"]
        if self._p is not None:
            self._p.copy_(state["p"])


def head_of(run: Run) -> SharedFusion:
    """Return the fusion of the model that `MLA.build` made."""
    fusion = run.model.get_submodule("fusion")
    assert isinstance(fusion, SharedFusion)
    return fusion
