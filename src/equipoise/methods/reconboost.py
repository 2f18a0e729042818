"""Boosting over modalities: one learner after the other on what the rest leaves unexplained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.methods.core.run import Plan, Run
from equipoise.methods.core.step import StepContext
from equipoise.methods.shared.option_checks import check_number
from equipoise.methods.shared.turns import TakesTurns, let_rest
from equipoise.models import with_fusion
from equipoise.models.fusion.shared import SharedFusion
from equipoise.scopes import modes_restored
from equipoise.types import warn

if TYPE_CHECKING:
    from equipoise.models import BalancedModel


class BoostedFusion(SharedFusion):
    """The ensemble `F = nu * sum_m h(c_m(z^m))` of one two-layer head h that reads every modality.

    `c_m` is the identity, or a projection where the widths differ.

    Args:
        widths: modality to feature width `d_m`, in the model's order.
        num_classes: `C`.
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
    """Return the mean over the batch of `-(label - residual * q_y) / C * log p_y`.

    Args:
        logits: `[B, C]` of the learner, `p = softmax(logits)`.
        rest: logits `[B, C]` of the other learners' ensemble, `q = softmax(rest)`; a constant.
        target: `[B]`.
        label: weight `w1` of the label.
        residual: weight `w2` of what the others explain.
    """
    place = target[:, None]
    explained = rest.detach().softmax(1).gather(1, place)
    return -((label - residual * explained) * logits.log_softmax(1).gather(1, place)).mean() / logits.shape[1]


@dataclass
class ReconBoost(TakesTurns):
    """Train one modality at a time on what the ensemble of the others leaves unexplained.

    A stage takes the next modality m in turn. For `boost_epochs` epochs encoder m and the head that all
    modalities share are trained by `boosting_loss`, plus `consolidation_weight * MSE(p^m, p^prev)` from the
    second stage on, where prev is the modality of the stage before; the other encoders rest. Then, for
    `rectify_epochs` epochs, everything is trained by `CE(F, y)`. Both phases begin with a fresh state of the
    optimiser. The ensemble F predicts.

    Attributes:
        boost_epochs: epochs of the first phase.
        rectify_epochs: epochs of the second.
        label_weight: `w1`.
        residual_weight: `w2`; 0 is a scaled cross-entropy.
        consolidation: whether there is the consolidation term (it is without effect as released).
        consolidation_weight: its weight.
        hidden: units of the head's hidden layer.
        order: see `TakesTurns`.
    """

    boost_epochs: int = 4
    rectify_epochs: int = 4
    label_weight: float = 5.0
    residual_weight: float = 1.0
    consolidation: bool = True
    consolidation_weight: float = 0.5
    hidden: int = 256

    name = "reconboost"
    summary = "boost one modality after the other on what the rest leaves unexplained, then rectify"
    source = "Hua, Xu, Bao, Yang and Huang, ICML 2024, arXiv 2405.09321"
    cost = "none: fewer passes backward, as encoders rest"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("boost_epochs", self.boost_epochs, low=1)
        check_number("rectify_epochs", self.rectify_epochs)
        check_number("label_weight", self.label_weight)
        check_number("residual_weight", self.residual_weight)
        check_number("consolidation_weight", self.consolidation_weight)
        check_number("hidden", self.hidden, low=1)

    def problems(self, plan: Plan) -> list[str]:
        """Say that training is too short for two turns."""
        stage = self.boost_epochs + self.rectify_epochs
        if plan.epochs > stage:
            return super().problems(plan)
        return [
            *super().problems(plan),
            f"{self.name} boosts one modality only: a stage takes {stage} epochs and there are "
            f"{plan.epochs}; train longer, or lower boost_epochs and rectify_epochs.",
        ]

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the encoders under the ensemble."""
        widths = reference.feature_widths()
        return with_fusion(reference, BoostedFusion(widths, reference.num_outputs, hidden=self.hidden))

    def setup(self, run: Run) -> None:
        """Say which modalities get no turn; only here is it known how many there are."""
        super().setup(run)
        stage, order = self.boost_epochs + self.rectify_epochs, self.turns(run)
        left_out = [m for place, m in enumerate(order) if run.total_epochs <= place * stage]
        # Where one modality alone gets a turn, `problems` has said so.
        if left_out and run.total_epochs > stage:
            warn(
                f"{self.name} never boosts {', '.join(left_out)}: a turn takes {stage} epochs and there are "
                f"{run.total_epochs}; train for more than {(len(order) - 1) * stage}, or lower boost_epochs "
                "and rectify_epochs."
            )

    def turn(self, run: Run) -> tuple[int, str | None]:
        """Return the stage (0-based) and the modality that is boosted; None while all are rectified."""
        stage, epoch = divmod(run.epoch, self.boost_epochs + self.rectify_epochs)
        order = self.turns(run)
        return stage, order[stage % len(order)] if epoch < self.boost_epochs else None

    def epoch_start(self, run: Run) -> None:
        """Begin a phase with a fresh optimiser, and let the encoders rest whose turn it is not."""
        super().epoch_start(run)
        if run.epoch % (self.boost_epochs + self.rectify_epochs) in (0, self.boost_epochs):
            run.optimizer.state.clear()
        active = self.turn(run)[1]
        if active is None:
            return
        with modes_restored(run.model.encoder_module(active)):  # what it shares with the others is at work
            for modality in self._resting(run, active):
                run.model.encoder_module(modality).eval()

    def forward(self, context: StepContext) -> Tensor:
        """Encode, without a graph where an encoder rests, and fuse."""
        run, active = context.run, self.turn(context.run)[1]
        if active is None:
            return super().forward(context)
        resting = self._resting(run, active)
        if "mid_fusion" in run.model.capabilities:  # such encoders run together or not at all
            z = run.model.encode(context.batch)
        else:
            with torch.no_grad():
                z = run.model.encode(context.batch, only=resting)
            z |= run.model.encode(context.batch, only=(active,))
        z = {m: z[m].detach() if m in resting else z[m] for m in run.model.modalities}
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
            others = {m: fusion.own_logits(m, context.z[m]) for m in self._resting(run, active)}
            rest = fusion.nu * torch.stack(list(others.values())).sum(0)
        terms = {"boosting": boosting_loss(own, rest, target, self.label_weight, self.residual_weight)}
        if self.consolidation and stage > 0:
            order = self.turns(run)
            before = others[order[(stage - 1) % len(order)]]
            distance = F.mse_loss(own.softmax(1), before.softmax(1))
            terms["consolidation"] = self.consolidation_weight * distance
        return terms

    def after_backward(self, context: StepContext) -> None:
        """Take the gradients of encoders that rest, so that neither momentum nor decay moves them."""
        super().after_backward(context)
        let_rest(context.run.model, self._resting(context.run, self.turn(context.run)[1]))

    def _resting(self, run: Run, active: str | None) -> list[str]:
        return [m for m in run.model.modalities if active is not None and m != active]
