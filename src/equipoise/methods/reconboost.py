"""Boosting over modalities: each learner is trained on the residual of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.methods.core.options import number
from equipoise.methods.core.run import Plan, Run, StepContext
from equipoise.methods.core.search import Uniform, Whole, space
from equipoise.methods.shared.turns import TakesTurns, encoders_to_eval, freeze_step
from equipoise.models import BalancedModel, SharedFusion, with_fusion
from equipoise.models.precision import widened
from equipoise.types import warn


class BoostedFusion(SharedFusion):
    """The ensemble `F = nu * sum_m h(c_m(z^m))` of one two-layer head h that reads every modality.

    `c_m` is the identity, or a projection where the widths differ.

    Args:
        hidden: units of the head's hidden layer.

    Attributes:
        nu: the trained scale, 1 at the start.
    """

    name: ClassVar[str] = ""

    def __init__(self, widths: Mapping[str, int], num_classes: int, *, hidden: int) -> None:
        super().__init__(widths, num_classes, combine="sum", hidden=hidden)
        self.nu = nn.Parameter(torch.ones(()))

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Return the ensemble's logits `[B, C]`."""
        return self.nu * super().forward(z)


def boosting_loss(logits: Tensor, rest: Tensor, target: Tensor, label: float, residual: float) -> Tensor:
    """Return the mean over the batch of `-(w1 - w2 * q_y) / C * log p_y`, `w1` for the label.

    `p = softmax(logits)` is of the learner, `q = softmax(rest)` of the ensemble of the others, without
    gradient; both logits are `[B, C]`. `w2` is for the residual, the part that the others explain.
    """
    place = target[:, None]
    explained = widened(rest.detach()).softmax(1).gather(1, place)
    log_p = widened(logits).log_softmax(1)
    return -((label - residual * explained) * log_p.gather(1, place)).mean() / logits.shape[1]


@dataclass
class ReconBoost(TakesTurns):
    """Train one modality at a time on the residual of the ensemble of the others.

    A stage boosts the next modality m. For `boost_epochs` epochs encoder m and the shared head are trained by
    `boosting_loss`, plus `consolidation_weight * MSE(p^m, p^prev)` from the second stage on, where prev is
    the modality of the previous stage; the other encoders are frozen. Then, for `rectify_epochs` epochs, all
    parameters are trained by `CE(F, y)`. Both phases begin with a new optimiser state. Predictions are those
    of the ensemble F.

    Attributes:
        boost_epochs: epochs of the first phase.
        rectify_epochs: epochs of the second.
        label_weight: `w1`.
        residual_weight: `w2`; 0 is a scaled cross-entropy.
        consolidation: whether to add the consolidation term (it has no effect as released).
        consolidation_weight: its weight.
        hidden: units of the head's hidden layer.
    """

    boost_epochs: int = number(4, low=1)
    rectify_epochs: int = number(4)
    label_weight: float = number(5.0)
    residual_weight: float = number(1.0)
    consolidation: bool = True
    consolidation_weight: float = number(0.5)
    hidden: int = number(256, low=1)

    name = "reconboost"
    summary = "boost one modality after the other on the residual of the others, then rectify"
    source = "Hua, Xu, Bao, Yang and Huang, ICML 2024, arXiv 2405.09321"
    bibtex = ("hua2024reconboost",)
    cost = "none: fewer backward passes, as encoders are frozen"
    search_space = space(boost_epochs=Whole(1, 8), rectify_epochs=Whole(1, 8), residual_weight=Uniform(0, 4))

    def problems(self, plan: Plan) -> list[str]:
        """Warn that training is too short for two stages."""
        found, stage = super().problems(plan), self.boost_epochs + self.rectify_epochs
        if plan.epochs <= stage:
            found.append(
                f"{self.name} boosts one modality only: a stage takes {stage} epochs and there are "
                f"{plan.epochs}; train longer, or lower boost_epochs and rectify_epochs."
            )
        return found

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the encoders with the ensemble."""
        widths = reference.feature_widths()
        return with_fusion(reference, BoostedFusion(widths, reference.num_outputs, hidden=self.hidden))

    def setup(self, run: Run) -> None:
        """Warn of modalities without a stage; their number is not known earlier."""
        super().setup(run)
        stage, order = self.boost_epochs + self.rectify_epochs, self.turns(run)
        left_out = [m for place, m in enumerate(order) if run.total_epochs <= place * stage]
        # If only one modality gets a stage, `problems` has warned of it.
        if left_out and run.total_epochs > stage:
            warn(
                f"{self.name} never boosts {', '.join(left_out)}: a stage takes {stage} epochs and there are "
                f"{run.total_epochs}; train for more than {(len(order) - 1) * stage}, or lower boost_epochs "
                "and rectify_epochs."
            )

    def turn(self, run: Run) -> tuple[int, str | None]:
        """Return the stage (0-based) and the boosted modality; None while all are rectified."""
        stage, epoch = divmod(run.epoch, self.boost_epochs + self.rectify_epochs)
        order = self.turns(run)
        return stage, order[stage % len(order)] if epoch < self.boost_epochs else None

    def epoch_start(self, run: Run) -> None:
        """Begin a phase with a new optimiser state, and set frozen encoders to evaluation mode."""
        super().epoch_start(run)
        if run.epoch % (self.boost_epochs + self.rectify_epochs) in (0, self.boost_epochs):
            run.optimizer.state.clear()
        encoders_to_eval(run.model, self._frozen(run, self.turn(run)[1]))

    def forward(self, context: StepContext) -> Tensor:
        """Encode, without a graph for frozen encoders, and fuse."""
        run, active = context.run, self.turn(context.run)[1]
        if active is None:
            return super().forward(context)
        frozen = self._frozen(run, active)
        if "mid_fusion" in run.model.capabilities:  # such encoders run only together
            z = run.model.encode(context.batch)
        else:
            with torch.no_grad():
                z = run.model.encode(context.batch, only=frozen)
            z |= run.model.encode(context.batch, only=(active,))
        z = {m: z[m].detach() if m in frozen else z[m] for m in run.model.modalities}
        context.features = z
        context.z = self.edit_features(z, context)
        context.u = self.fuse(context.z, context)
        return context.u

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the terms of the present phase."""
        run, target = context.run, context.batch.target
        stage, active = self.turn(run)
        if active is None:
            return {"rectification": F.cross_entropy(context.u, target)}
        fusion = cast("BoostedFusion", run.model.fusion)
        own = fusion.own_logits(active, context.z[active])
        with torch.no_grad():
            others = {m: fusion.own_logits(m, context.z[m]) for m in self._frozen(run, active)}
            rest = fusion.nu * torch.stack(list(others.values())).sum(0)
        terms = {"boosting": boosting_loss(own, rest, target, self.label_weight, self.residual_weight)}
        if self.consolidation and stage > 0:
            order = self.turns(run)
            before = others[order[(stage - 1) % len(order)]]
            distance = F.mse_loss(widened(own).softmax(1), widened(before).softmax(1))
            terms["consolidation"] = self.consolidation_weight * distance
        return terms

    def after_backward(self, context: StepContext) -> None:
        """Remove the gradients of frozen encoders."""
        super().after_backward(context)
        freeze_step(context.run.model, self._frozen(context.run, self.turn(context.run)[1]))

    def _frozen(self, run: Run, active: str | None) -> list[str]:
        return [m for m in run.model.modalities if active is not None and m != active]
