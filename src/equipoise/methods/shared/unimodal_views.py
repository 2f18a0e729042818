"""Methods that read the logits of each modality alone, from a source that the user chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.methods.core.method import Method
from equipoise.methods.core.options import choice
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, StepContext
from equipoise.models import BalancedModel, OwnHeads
from equipoise.models.precision import widened


@dataclass
class ReadsUnimodal(Method):
    """A method that reads unimodal logits `u^m`; a subclass declares the sources that suit it.

    Attributes:
        logits: their source: `slice` (the modality's part of an additive head, exact), `zero-feature` or
            `zero-input` (the joint head with the other features, or inputs, set to zero), `aux` (an auxiliary
            linear head for each modality, trained with the model).
    """

    logits: str = choice("slice", "zero-feature", "zero-input")

    def needs(self) -> Requirements:
        """Add the additive head that the source `slice` needs."""
        needs = super().needs()
        return needs.and_of("additive_head") if self.logits == "slice" else needs

    def extra_modules(self, model: BalancedModel, plan: Plan) -> dict[str, nn.Module]:
        """Return the auxiliary heads where they are the source."""
        if self.logits != "aux":
            return {}
        return {"heads": OwnHeads(model.feature_widths(), model.num_outputs)}

    def unimodal(
        self, context: StepContext, *, detached: bool = False, head_grad: bool = True
    ) -> dict[str, Tensor]:
        """Return `u^m [B, C]` of each modality; `detached` returns them without gradient."""
        return context.unimodal_logits(self.logits, detached=detached, head_grad=head_grad)

    def unimodal_loss(self, context: StepContext, *, head_grad: bool = True) -> Tensor:
        """Return `sum_m CE(u^m, y)`."""
        logits = self.unimodal(context, head_grad=head_grad)
        return unimodal_loss(logits, context.batch.target, context.run.loss)

    def scores(self, context: StepContext) -> dict[str, float]:
        """Return `s^m = sum_i softmax(u^m_i)[y_i]`."""
        return score_sums(self.unimodal(context, detached=True), context.batch.target)


def true_class_probability(logits: Tensor, target: Tensor) -> Tensor:
    """Return `softmax(u_i)[y_i]` `[B]` of logits `[B, C]` and target `[B]`, in float32 or wider."""
    return widened(logits).softmax(1).gather(1, target[:, None]).squeeze(1)


def score_sums(logits: Mapping[str, Tensor], target: Tensor) -> dict[str, float]:
    """Return `sum_i softmax(u^m_i)[y_i]` of each modality's logits `[B, C]`."""
    return {m: float(true_class_probability(u, target).sum()) for m, u in logits.items()}


def unimodal_loss(
    logits: Mapping[str, Tensor],
    target: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Tensor:
    """Return `sum_m CE(u^m, y)`, each the mean over the batch; in a run `loss` is `run.loss`."""
    losses = [loss(u, target) for u in logits.values()]
    return sum(losses[1:], start=losses[0])
