"""Classifier-guided gradient modulation: auxiliary classifiers measure how fast each modality improves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, Run, StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.methods.shared.modulation import Modulates
from equipoise.methods.shared.unimodal_views import unimodal_loss
from equipoise.methods.shared.windows import Windowed
from equipoise.models import BalancedModel, OwnHeads
from equipoise.models.precision import widened
from equipoise.types import UsageError


def improvement_shares(gains: Mapping[str, float], limit: float) -> dict[str, float]:
    """Return `B^m = (sum_n d^n - d^m) / sum_n d^n`, the others' share of the improvement, in `[0, limit]`.

    `d^m` is the gain of the metric of m. Before clipping the sum of all `B^m` is `M - 1`. Where the sum of
    the gains is near zero, each is `(M - 1) / M`.
    """
    total, count = sum(gains.values()), len(gains)
    if abs(total) < 1e-6:
        raw = dict.fromkeys(gains, (count - 1) / count)
    else:
        raw = {m: (total - gain) / total for m, gain in gains.items()}
    return {m: min(max(share, 0.0), limit) for m, share in raw.items()}


def output_gradient(logits: Tensor, target: Tensor, z: Tensor | None) -> Tensor:
    """Return `d CE / d W = (softmax(u) - Y)^T z / B` in closed form, with a graph, as one vector.

    `u` are logits `[B, C]`, `z [B, d]` the input of the output layer; None returns `d CE / d u` instead.
    """
    with torch.autocast(logits.device.type, enabled=False):
        residual = (widened(logits).softmax(1) - F.one_hot(target, logits.shape[1])) / len(target)
        return (residual if z is None else residual.T @ widened(z)).flatten()


@dataclass
class CGGM(Modulates, Windowed):
    """Scale and align the encoders' gradients by an auxiliary classifier for each modality.

    Classifier m is trained on `stopgrad z^m` and gives the metric `A^m_t`, its accuracy. With
    `d^m = A^m_t - A^m_{t-1}` and `B^m` as in `improvement_shares`, the gradient of encoder m is multiplied by
    `rho * B^m`. `lam * (1 / M) * sum_m (|B^m| - B^m cos(g_c^m, g_f^m))` is added to the next step's loss:
    `g_f^m` is the gradient of the joint loss at the output layer as a function of the model, `g_c^m` that of
    the loss of classifier m, a constant.

    Attributes:
        rho: scale of the modulation; None does not scale gradients.
        lam: weight of the direction term.
        metric: `batch`, or `ema` for its exponential moving average.
        ema_decay: share of the past in the average.
        limit: largest `B^m`; the smallest is 0.
        direction: gradients that are compared: of the `weights` that read m (an additive head), or of the
            `logits` (any fusion).
        classifier_factor: factor on the learning rate of the classifiers.
    """

    rho: float | None = number(1.3)
    lam: float = number(0.2)
    metric: str = choice("batch", "ema")
    ema_decay: float = number(0.9, high=1)
    limit: float = number(1.0)
    direction: str = choice("weights", "logits")
    classifier_factor: float = number(0.5)

    name = "cggm"
    family = "optimisation"
    summary = "scale and align gradients by classifiers that measure how fast each modality improves"
    stacks = True
    source = "Guo et al., NeurIPS 2024, arXiv 2411.01409"
    bibtex = ("guo2024classifier",)
    cost = "a linear classifier per modality"
    search_space = space(rho=LogUniform(0.5, 4), lam=LogUniform(0.02, 2))
    requires = Requirements(min_modalities=2)
    experimental = True
    remembered = ("_metrics", "_shares")

    def needs(self) -> Requirements:
        """Add the additive head whose weights are compared."""
        needs = super().needs()
        return needs.and_of("additive_head") if self.lam and self.direction == "weights" else needs

    def extra_modules(self, model: BalancedModel, plan: Plan) -> dict[str, nn.Module]:
        """Return the classifiers."""
        return {"classifiers": OwnHeads(model.feature_widths(), model.num_outputs)}

    def setup(self, run: Run) -> None:
        """Set the classifiers' learning rate, and clear the history."""
        super().setup(run)
        self._metrics: dict[str, float] = {}
        self._shares: dict[str, float] = {}
        if self.classifier_factor == 1:
            return
        own = set(run.modules["classifiers"].parameters())
        for group in run.optimizer.param_groups:
            if not own.isdisjoint(group["params"]):
                if not own.issuperset(group["params"]):
                    raise UsageError(
                        "classifier_factor would also change the learning rate of other parameters in the "
                        "optimiser's group of the classifiers; choose classifier_factor=1."
                    )
                group["factor"] = self.classifier_factor

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term, that of the classifiers, and that of the direction (last shares)."""
        terms = {"joint": joint_loss(context)}
        if not self._acts(context.run):
            return terms
        logits, target = self._classify(context), context.batch.target
        terms["classifiers"] = unimodal_loss(logits, target, context.run.loss)
        if self.lam and self._shares:
            terms["direction"] = self.lam * self._direction(context, logits)
        return terms

    def after_backward(self, context: StepContext) -> None:
        """Scale the gradients by the share of the improvement since the last step."""
        if not self._acts(context.run):
            self._metrics, self._shares = {}, {}
            return
        with torch.no_grad(), context.run.autocast():
            logits = self._classify(context)
        hits = {m: u.argmax(1) == context.batch.target for m, u in logits.items()}
        metrics = {m: float(hit.double().mean()) for m, hit in hits.items()}
        before, self._metrics = self._metrics, metrics
        if not before:
            return
        if self.metric == "ema":
            past = self.ema_decay
            self._metrics = {m: past * before[m] + (1 - past) * metrics[m] for m in metrics}
        gains = {m: self._metrics[m] - before[m] for m in before}
        self._shares = improvement_shares(gains, self.limit)
        if self.rho is not None:
            self.modulate(context, {m: self.rho * share for m, share in self._shares.items()})

    def _acts(self, run: Run) -> bool:
        return (self.rho is not None or self.lam > 0) and self.in_window(run)

    def _classify(self, context: StepContext) -> dict[str, Tensor]:
        """Return the classifiers' logits, without gradient to the encoders."""
        classifiers = cast("OwnHeads", context.run.modules["classifiers"])
        return {m: classifiers.own_logits(m, z.detach()) for m, z in context.features.items()}

    def _direction(self, context: StepContext, logits: Mapping[str, Tensor]) -> Tensor:
        """Return `(1 / M) * sum_m (|B^m| - B^m cos(g_c^m, g_f^m))`."""
        target, terms = context.batch.target, []
        for m, share in self._shares.items():
            z = context.z[m] if self.direction == "weights" else None
            joint = output_gradient(context.u, target, z)
            own = output_gradient(logits[m], target, z).detach()
            terms.append(abs(share) - share * F.cosine_similarity(own, joint, dim=0))
        return torch.stack(terms).mean()
