"""Adaptive gradient modulation: the contribution of each modality now, compared with its history."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.diagnosis.contribution.shapley import shapley_values
from equipoise.distributed import gathered
from equipoise.methods.core.method import Method, joint_loss, overrides
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, Run, StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.methods.shared.modulation import Modulates
from equipoise.methods.shared.windows import Windowed
from equipoise.models.precision import widened
from equipoise.models.subset_logits import answers_to_zeros, subset_logits
from equipoise.scopes import evaluating
from equipoise.sharing import with_inputs
from equipoise.types import UsageError


def contribution_scores(parts: Mapping[str, Tensor], target: Tensor) -> dict[str, float]:
    """Return `s^m = mean_i -log softmax(phi^m_i)[y_i]` of parts `phi^m [B, C]` and target `[B]`.

    Probabilities are at least 1e-8.
    """
    scores = {}
    for m, part in parts.items():
        wide = widened(part.detach())
        likelihood = wide.log_softmax(1).gather(1, target[:, None]).clamp(min=math.log(1e-8))
        scores[m] = -float(likelihood.mean())
    return scores


def leads(scores: Mapping[str, float]) -> dict[str, float]:
    """Return `r^m = exp(M / (M - 1) * (mean of all scores - s^m))`, above 1 where m leads."""
    count, mean = len(scores), sum(scores.values()) / len(scores)
    return {m: math.exp(count / (count - 1) * (mean - s)) for m, s in scores.items()}


@dataclass
class AGM(Modulates, Windowed):
    """Scale the gradient of each modality by its present lead, compared with its history.

    Shapley values split the joint logits, `u = sum_m phi^m`. With `s^m = mean_i -log softmax(phi^m_i)[y_i]`,
    `r^m = exp(M / (M - 1) * (mean_n s^n - s^m))` and `tau^m` the same of the running means of the scores, the
    gradient of `phi^m` is multiplied by `kappa^m = exp(alpha * min(tau^m - r^m, cap))`. The defaults are
    those of the official code.

    Attributes:
        alpha: strength of the modulation.
        mode: `shapley-branch` scales the gradient into `phi^m`, through the passes of the subsets, and so
            that of encoders and head; `encoder-grad` scales that of encoder m only, and evaluates the subsets
            without gradient.
        history: the running means are over the steps before this one (`exclusive`, with 0 in the first step),
            or over this one too (`inclusive`; the first step then changes nothing).
        cap: upper limit of `tau^m - r^m`; None is 10 for two modalities and 7 for more.
    """

    alpha: float = number(1.0, high=10)
    mode: str = choice("shapley-branch", "encoder-grad")
    history: str = choice("exclusive", "inclusive")
    cap: float | None = number(None, high=50)

    name = "agm"
    family = "optimisation"
    summary = "scale each modality's gradient by its Shapley contribution against its own history"
    stacks = True
    source = "Li et al., ICCV 2023, arXiv 2308.07686"
    bibtex = ("li2023boosting",)
    cost = "two more passes and 2^M - 2 calls of the head per step"
    search_space = space(alpha=LogUniform(0.1, 10))
    requires = Requirements(min_modalities=2)
    remembered = ("_means", "_steps")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode != "encoder-grad" and (self.tensors, self.apply) != ("all", "auto"):
            raise UsageError("tensors and apply belong to mode='encoder-grad'; leave them out, or choose it.")

    def acts_on_encoders(self) -> bool:
        """Whether gradients of encoders are scaled, or those of the parts of the logits."""
        return self.mode == "encoder-grad"

    def problems(self, plan: Plan) -> list[str]:
        """Warn that adaptive optimisers undo a scaled gradient, in either mode."""
        found = super().problems(plan)
        if not self.acts_on_encoders() and plan.optimizer != "sgd":
            found.append(
                f"{self.name} scales gradients, which {plan.optimizer} undoes by its own scaling: choose the "
                "optimizer sgd, or mode=encoder-grad."
            )
        return found

    def conflicts(self, other: Method) -> str:
        """Refuse methods that change the joint logits, which the parts add up to, or their loss."""
        if any(overrides(other, hook) for hook in ("edit_features", "fuse", "forward")):
            return f"{self.name} splits the joint logits of unchanged features, and {other.name} changes them"
        if self.mode == "shapley-branch" and other.replaces_loss:
            return f"{self.name} corrects the gradient of the joint loss, which {other.name} replaces"
        return super().conflicts(other)

    def own_gradients(self) -> bool:
        """Whether the gradient of the logits is taken."""
        return self.mode == "shapley-branch"

    def setup(self, run: Run) -> None:
        """Start without a history."""
        super().setup(run)
        self._means: dict[str, float] = {}
        self._steps = 0

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint loss, and with `shapley-branch` a term of value zero that changes its gradient.

        The joint loss gives every `phi^m` the gradient `delta = d CE / d u`; the second term adds
        `(kappa^m - 1) * delta`.
        """
        loss = joint_loss(context)
        if self.mode != "shapley-branch" or not self._acts(context.run):
            return {"joint": loss}
        parts = self._parts(context)
        (delta,) = torch.autograd.grad(loss, context.u, retain_graph=True)
        kappa = self._coefficients(parts, context.batch.target)
        extra = [(kappa[m] - 1) * (delta * (part - part.detach())).sum() for m, part in parts.items()]
        return {"joint": loss, "modulation": torch.stack(extra).sum()}

    def after_backward(self, context: StepContext) -> None:
        """Scale the encoders' gradients."""
        if self.mode != "encoder-grad" or not self._acts(context.run):
            return
        with torch.no_grad(), context.run.autocast():
            parts = self._parts(context)
        self.modulate(context, self._coefficients(parts, context.batch.target))

    def _acts(self, run: Run) -> bool:
        return self.alpha > 0 and self.in_window(run)

    def _parts(self, context: StepContext) -> dict[str, Tensor]:
        """Return `phi^m [B, C]`; the logits of no modality are 0, those of all are those of the step."""
        model, batch = context.run.model, context.batch
        everything = frozenset(model.modalities)
        mixed = "mid_fusion" in model.capabilities
        with evaluating(model):  # zeros must not change running statistics
            z = {} if mixed else model.encode(batch)
            absent = {} if mixed else answers_to_zeros(model, batch)

        def value(subset: frozenset[str]) -> Tensor:
            if not subset:
                return torch.zeros_like(context.u)
            if subset == everything:
                return context.u
            if not mixed:
                return subset_logits(model, z, subset, absent=absent)
            inputs = {m: x if m in subset else torch.zeros_like(x) for m, x in batch.inputs.items()}
            with evaluating(model):
                return model.fuse(model.encode(with_inputs(batch, inputs)))

        return shapley_values(value, model.modalities)

    def _coefficients(self, parts: Mapping[str, Tensor], target: Tensor) -> dict[str, float]:
        """Update the history and return `kappa^m`, from the samples of all processes."""
        every = gathered(contribution_scores(parts, target))
        scores = {m: sum(own[m] for own in every) / len(every) for m in parts}
        past = {m: self._means.get(m, 0.0) for m in scores}
        self._steps += 1
        self._means = {m: mean + (scores[m] - mean) / self._steps for m, mean in past.items()}
        now, before = leads(scores), leads(past if self.history == "exclusive" else self._means)
        cap = (10 if len(scores) == 2 else 7) if self.cap is None else self.cap
        return {m: math.exp(self.alpha * min(before[m] - now[m], cap)) for m in scores}
