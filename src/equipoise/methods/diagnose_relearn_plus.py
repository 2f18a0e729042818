"""Diagnosing & Re-learning in cycles, with a loss on each modality and a ruler of held-out accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, Run, StepContext, own_heads
from equipoise.methods.core.search import LogUniform, Whole, space
from equipoise.methods.shared.cycles import at_peak, at_rest, cycle_ends, in_last_cycle, restarted, too_short
from equipoise.methods.shared.lessons import Lessons
from equipoise.methods.shared.relearns import Relearns
from equipoise.methods.shared.unimodal_views import unimodal_loss
from equipoise.models import BalancedModel, OwnHeads
from equipoise.models.averaged import AllHeadsModel, CopiesModel, UnitModel
from equipoise.relearning.schedule import RelearningSchedule
from equipoise.tasks import EVERY_TASK
from equipoise.types import Batch, UsageError

JOINT = "joint"
"""Name of the joint head among the heads that are taught."""


@dataclass
class DiagnoseRelearnPlus(Relearns):
    """Train in cycles, and after each but the last reset what was learnt by heart.

    With a linear head for each modality, `L = CE(u, y) + weight * sum_m CE(u^m, y)`; in each of the `cycles`
    the learning rate falls from its peak to 0 by a half cosine. After a cycle `g_m` is by how much the
    nearest class mean of the training features is right more often on training than on validation samples,
    and `theta_m <- (1 - alpha_m) * theta_m + alpha_m * theta0_m` with `alpha_m = tanh(lam * max g) *
    (g_m / max g)^4`: mostly the encoder that has learnt most by heart is reset. The momentum of what was
    reset is cleared; the heads are kept.

    Attributes:
        cycles: number of cycles; 1 resets nothing.
        ends: parts of the training after which all cycles but the last end, such as `[0.25, 0.5]`; None makes
            `cycles` of equal length.
        weight: of the losses of the modalities alone; 0 adds no heads.
        features: what the joint head reads: the features scaled to length one (`unit`), or as they are
            (`raw`). `auto` is unit, and raw in a loop of your own, or where `weight=0`.
        rates: `cosine` in each cycle, `one-cosine` over the training, `constant` at the peak, or `keep` the
            planned learning rates.
        distillation: `last` adds `taught * T^2 * KL(t || u)` of each head to the loss, where `t` are its
            outputs before the last reset; `mean` the mean of its outputs before all resets.
        taught: weight of the distillation.
        temperature: `T` of the distillation.
        prediction: the normalised `product` of the probabilities of all heads, to the power of one over their
            number; their mean (`heads`); or that of the `joint` head. `auto` is the product, and joint in a
            loop of your own, whose model stays as it is, or where `weight=0` leaves no others.
        cycle_mean: predict by the mean of the models at the ends of all cycles.
    """

    lam: float | dict[str, float] = 5.0
    cycles: int = 4
    ends: list[float] | None = None
    weight: float = number(1.0)
    features: str = choice("auto", "unit", "raw")
    rates: str = choice("cosine", "one-cosine", "constant", "keep")
    distillation: str = choice("none", "last", "mean")
    taught: float = number(1.0)
    temperature: float = number(2.0, above=0.0)
    prediction: str = choice("auto", "joint", "heads", "product")
    cycle_mean: bool = False

    name = "diagnose-relearn-plus"
    family = "optimisation"
    summary = "re-learning in cycles: what a modality has learnt by heart is reset, with a loss on each"
    stacks = True
    source = "this toolkit, after Wei et al., ECCV 2024, arXiv 2407.09705"
    bibtex = ("wei2024diagnosing",)
    cost = "a linear head per modality, and a pass over train and validation per cycle"
    search_space = space(lam=LogUniform(0.5, 50), cycles=Whole(2, 6), weight=LogUniform(0.1, 10))
    requires = Requirements(tasks=EVERY_TASK)
    usual: ClassVar[Mapping[str, Any]] = {
        "metric": "nearest-class-mean",
        "assign": "transfer",
        "scaler": "standard-train",
        "sign": "positive",
        "bootstrap": 0,
        "allocation": "sharpened",
        "optimizer_state": "zero",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cycles < 1:
            raise UsageError(f"cycles is {self.cycles}; expected at least 1.")
        if self.ends is not None and not all(0 < end < 1 for end in self.ends):
            raise UsageError(f"ends are {self.ends}; expected parts of the training between 0 and 1.")
        if self.prediction in ("heads", "product") and not self.weight:
            raise UsageError(
                f"prediction={self.prediction!r} is of heads which weight=0 leaves out; expected a weight."
            )

    # The model -------------------------------------------------------------------------------------------

    def keep_model(self) -> None:
        """Predict by the joint head on the features as they are, unless more was asked for."""
        if self.prediction == "auto":
            self.prediction = JOINT
        if self.features == "auto":
            self.features = "raw"

    def _by_heads(self) -> bool:
        """Whether all heads make the prediction."""
        return self.prediction in ("heads", "product") or (self.prediction == "auto" and self.has_heads())

    def _unit(self) -> bool:
        """Whether the joint head reads features of length one."""
        return self.features == "unit" or (self.features == "auto" and self.has_heads())

    def changes_model(self) -> bool:
        """Whether the prediction is not that of the joint head on the features as they are."""
        return self._by_heads() or self._unit() or self._copies() > 0

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the model, with its heads and copies where they are part of the prediction."""
        model: BalancedModel = UnitModel(reference) if self._unit() else reference
        if self._by_heads():
            model = AllHeadsModel(model, product=self.prediction != "heads")
        return CopiesModel(model, copies) if (copies := self._copies()) else model

    def _copies(self) -> int:
        """Return the number of models of earlier cycles that the prediction takes part of."""
        return self._resets() if self.cycle_mean else 0

    def extra_modules(self, model: BalancedModel, plan: Plan) -> dict[str, nn.Module]:
        """Return the heads of the modalities, unless they are part of the model."""
        if not self.has_heads() or self._by_heads():
            return {}
        return {"heads": OwnHeads(model.feature_widths(), model.num_outputs)}

    # The schedule ----------------------------------------------------------------------------------------

    def schedule(self, total_epochs: int) -> RelearningSchedule:
        """Return after which epochs the encoders are re-learnt."""
        ends = cycle_ends(total_epochs, self.cycles, self.ends)
        return RelearningSchedule(epochs=[end - 1 for end in ends[:-1] if end > 0])

    def _resets(self) -> int:
        """Return the number of cycles but the last."""
        return self.cycles - 1 if self.ends is None else len(set(self.ends))

    def problems(self, plan: Plan) -> list[str]:
        """Say where there are not enough epochs for the cycles."""
        return too_short(plan.epochs, self._resets() + 1, "cycles") or super().problems(plan)

    def learning_rates(self, plan: Plan) -> Sequence[float]:
        """Return rates from the planned peak, after its warm-up; by default a half cosine in each cycle."""
        planned = plan.learning_rates()
        if self.rates == "keep":
            return planned
        if self.rates == "constant":
            return at_peak(planned)
        if self.rates == "one-cosine":
            return restarted(planned, [len(planned)])
        return restarted(planned, cycle_ends(len(planned), self.cycles, self.ends))

    # Training --------------------------------------------------------------------------------------------

    def has_heads(self) -> bool:
        """Whether there are losses of the modalities alone."""
        return self.weight > 0

    def heads(self, run: Run) -> dict[str, nn.Module] | None:
        """Return the heads of the losses of the modalities alone, if there are any."""
        return {**self._own(run).by_modality()} if self.has_heads() else None

    def setup(self, run: Run) -> None:
        """Remember the initial weights."""
        super().setup(run)
        self._lessons = Lessons(mean=self.distillation == "mean")

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term, the unimodal one, and what is taught."""
        run = context.run
        terms = {JOINT: joint_loss(context)}
        if not self.weight and self.distillation == "none":
            return terms
        outputs = self._outputs(run, context.features, context.u)
        if self.weight:
            alone = {m: u for m, u in outputs.items() if m != JOINT}
            terms["unimodal"] = self.weight * unimodal_loss(alone, context.batch.target, run.loss)
        taught = self._lessons.distance(outputs, context.batch, self.temperature, run.model.task)
        for head, distance in taught.items():
            terms[f"taught.{head}"] = self.taught * (1.0 if head == JOINT else self.weight) * distance
        return terms

    def is_candidate(self, run: Run) -> bool:
        """Whether the epoch is at the end of the last cycle, or in it where rates do not fall.

        The weights of the other cycles are there to be reset.
        """
        if self.rates in ("cosine", "one-cosine"):
            return at_rest(run.epoch, cycle_ends(run.total_epochs, self.cycles, self.ends))
        return in_last_cycle(run.epoch, run.total_epochs, self.cycles, self.ends)

    def epoch_end(self, run: Run) -> None:
        """At the end of a cycle keep its outputs and weights, then diagnose and re-learn."""
        if self._relearn.due(run.epoch):
            if self.distillation != "none":
                self._lessons.learn(run, lambda batch: self._answers(run, batch))
            if isinstance(run.model, CopiesModel):
                run.model.take()
        super().epoch_end(run)

    def _answers(self, run: Run, batch: Batch) -> dict[str, Tensor]:
        z = run.model.encode(batch)
        return self._outputs(run, z, _innermost(run.model).fuse(z))

    def _outputs(self, run: Run, z: Mapping[str, Tensor], u: Tensor) -> dict[str, Tensor]:
        """Return the outputs `[B, C]` of all heads: the joint one, and that of each modality."""
        if not self.weight:
            return {JOINT: u}
        return {JOINT: u, **self._own(run)({m: z[m] for m in run.model.modalities})}

    def _own(self, run: Run) -> OwnHeads:
        inside = run.model.inner if isinstance(run.model, CopiesModel) else run.model
        return inside.own if isinstance(inside, AllHeadsModel) else own_heads(run)

    def state_dict(self) -> dict[str, Any]:
        """Add what is taught."""
        return {**super().state_dict(), "lessons": self._lessons.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over an interrupted run."""
        super().load_state_dict(state)
        self._lessons.load_state_dict(state["lessons"])


def _innermost(model: BalancedModel) -> BalancedModel:
    """Return the model inside the wrappers of this method."""
    while isinstance(model, AllHeadsModel | CopiesModel):
        model = model.inner
    return model
