"""Methods that read the logits of each modality alone, from a source that the user chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.methods.core.method import Method
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, Run
from equipoise.methods.core.step import StepContext
from equipoise.methods.shared.option_checks import check_choice
from equipoise.methods.shared.precision import widened

if TYPE_CHECKING:
    from equipoise.models import BalancedModel
    from equipoise.models.heads import OwnHeads

SCORES = ("slice", "zero-feature", "zero-input")
"""Sources that say what the joint head makes of a modality; `slice` is exact and needs an additive head."""

LOSSES = ("aux", "slice", "zero-feature")
"""Sources of unimodal losses; `aux` is a linear head of its own for each modality."""


@dataclass
class ReadsUnimodal(Method):
    """A method that reads unimodal logits `u^m`.

    Attributes:
        logits: where they come from: `slice` (the modality's part of an additive head), `zero-feature` or
            `zero-input` (the joint head with the other features, or inputs, at zero), `aux` (a linear head
            for each modality, trained with the model).
    """

    logits: str = "slice"

    sources: ClassVar[tuple[str, ...]] = SCORES

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("logits", self.logits, self.sources)

    def needs(self) -> Requirements:
        """Return what the method needs; the source `slice` needs an additive head."""
        needs = super().needs()
        if self.logits != "slice":
            return needs
        return needs.and_of("additive_head")

    def extra_modules(self, model: BalancedModel, plan: Plan) -> dict[str, nn.Module]:
        """Return the auxiliary heads where they are the source."""
        from equipoise.models.heads import OwnHeads

        if self.logits != "aux":
            return {}
        return {"heads": OwnHeads(model.feature_widths(), model.num_outputs)}

    def unimodal(
        self, context: StepContext, *, detached: bool = False, head_grad: bool = True
    ) -> dict[str, Tensor]:
        """Return `u^m [B, C]` of each modality; `detached` gives scores without gradient."""
        heads = own_heads(context.run).by_modality() if self.logits == "aux" else None
        return context.unimodal_logits(self.logits, detached=detached, head_grad=head_grad, heads=heads)


def own_heads(run: Run) -> OwnHeads:
    """Return the auxiliary heads of a run, its module `heads`."""
    return cast("OwnHeads", run.modules["heads"])


def true_class_scores(logits: Mapping[str, Tensor], target: Tensor) -> dict[str, Tensor]:
    """Return `p^m_y [B]`, the probability that each modality gives to the true class.

    Args:
        logits: modality to `[B, C]`.
        target: `[B]`.
    """
    scores = {}
    for m, u in logits.items():
        wide = widened(u)
        scores[m] = wide.softmax(1).gather(1, target[:, None]).squeeze(1)
    return scores


def unimodal_loss(
    logits: Mapping[str, Tensor],
    target: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Tensor:
    """Return `sum_m CE(u^m, y)`, each the mean over the batch; in a run `loss` is `run.loss`."""
    losses = [loss(u, target) for u in logits.values()]
    return sum(losses[1:], start=losses[0])
