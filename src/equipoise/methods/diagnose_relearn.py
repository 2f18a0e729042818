"""Diagnosing & Re-learning as a method of the toolkit's trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import TYPE_CHECKING, Any

from equipoise.diagnosis.estimate import usual_options
from equipoise.diagnosis.features.capture import encoders_of
from equipoise.methods.core.method import Method
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, Run
from equipoise.relearning.options import DIAGNOSIS_OPTIONS, RELEARN_OPTIONS, split_options
from equipoise.relearning.relearner import DiagnoseRelearn
from equipoise.relearning.schedule import RelearningSchedule
from equipoise.relearning.selection import select_parameters, selection_by_modality
from equipoise.relearning.strength import check_layers, lam_by_modality
from equipoise.relearning.targets import SUFFIX, with_target_file
from equipoise.tasks import EVERY_TASK, MULTILABEL
from equipoise.typed_options import check_types
from equipoise.types import UsageError, check_known

if TYPE_CHECKING:
    from equipoise.models import BalancedModel

PAPER_EPOCHS, PAPER_EVERY = 90, 20


@dataclass
class DiagnoseRelearnMethod(Method):
    """Pull each encoder toward its initial weights by how much it is over-trained, every few epochs.

    With purities `P_T`, `P_V` of k-means clusters of the training and validation features,
    `theta_m <- (1 - alpha_m) * theta_m + alpha_m * theta0_m`, `alpha_m = tanh(lam * |P_T - P_V|)`.
    The loss is `CE(u, y)`. See `DiagnoseRelearn` for the options.

    Attributes:
        lam: the paper's `lambda`, for all modalities or by name.
        every: epochs between re-learnings; None keeps the paper's proportion, 20 of 90 epochs.
        count: number of re-learnings.
        epochs: explicit epochs in place of `every` and `count`.
        preset: `paper` or `robust`.
        more: further fields of `RelearnOptions` and `DiagnosisOptions`; `target` may be the path of a
            `.safetensors` file with the names `MODALITY.PARAMETER`, such as pretrained weights.
    """

    lam: float | dict[str, float] = 3.0
    every: int | None = None
    count: int = 3
    epochs: list[int] | None = None
    preset: str = "paper"
    more: dict[str, Any] = field(default_factory=dict)

    name = "diagnose-relearn"
    family = "optimisation"
    summary = "soft re-initialisation of over-trained encoders, by the purity gap of their features"
    stacks = True
    source = "Wei et al., ECCV 2024, arXiv 2407.09705"
    cost = "a pass over train and validation and 2 k-means per modality, per re-learning"
    requires = Requirements(tasks=EVERY_TASK)

    @classmethod
    def create(cls, options: Mapping[str, Any]) -> Method:
        """Build the method; options that are no fields go to `RelearnOptions` and `DiagnosisOptions`."""
        own = {option.name for option in fields(cls)} - {"more"}
        known = own | RELEARN_OPTIONS | DIAGNOSIS_OPTIONS
        check_known(f"option of {cls.name!r}", options, known)
        check_types(cls, options, f"of {cls.name!r}")
        more = {key: value for key, value in options.items() if key not in own}
        if isinstance(more.get("target"), Mapping):
            raise UsageError(
                "the option 'target' holds tensors, which no run record can keep; give the path of a "
                ".safetensors file with the names MODALITY.PARAMETER."
            )
        if more.get("redraw_with"):
            raise UsageError(
                "the option 'redraw_with' holds functions, which no run record can keep; use DiagnoseRelearn "
                "in a loop of your own, or give the encoder's layers reset_parameters()."
            )
        split_options(str(options.get("preset", "paper")), _without_file(more))
        method = cls(**{key: value for key, value in options.items() if key in own}, more=more)
        every = PAPER_EVERY if method.every is None else method.every
        RelearningSchedule(every, method.count, _epochs(method.epochs))
        return method

    def options(self) -> dict[str, Any]:
        """Return the options, as plain values."""
        options = super().options()
        more: dict[str, Any] = options.pop("more")
        return options | more

    def problems(self, plan: Plan) -> list[str]:
        """Say which planned re-learnings never fire, meet a tiny learning rate, or come too late."""
        schedule = RelearningSchedule(self._every(plan.epochs), self.count, _epochs(self.epochs))
        rates = None if self.more.get("rewarm_steps") else plan.learning_rates()
        return schedule.problems(plan.epochs, rates)

    def check(self, model: BalancedModel) -> None:
        """Check what the options say of modalities and layers."""
        super().check(model)
        choices, _ = split_options(self.preset, _without_file(self.more))
        lam_by_modality(self.lam, model.modalities)
        selections = selection_by_modality(choices.parameters, model.modalities)
        selected = [select_parameters(model.encoder_module(m), choice) for m, choice in selections.items()]
        check_layers(choices, chain.from_iterable(selected))

    def setup(self, run: Run) -> None:
        """Remember the initial weights."""
        options = with_target_file(self.more, run.model.modalities)
        if run.model.task == MULTILABEL.name:  # also where each sample has one label
            options = usual_options("labels", options) | options
        self._relearn = DiagnoseRelearn(
            encoders_of(run.model),
            self._every(run.total_epochs),
            self.count,
            self.lam,
            epochs=self.epochs,
            preset=self.preset,
            optimizer=run.optimizer,
            head=getattr(run.model, "fusion", None),
            **options,
        )

    def epoch_end(self, run: Run) -> None:
        """Diagnose and re-learn where it is due."""
        self._relearn.track()
        if not self._relearn.due(run.epoch):
            return
        planned = self._relearn.plan(run.model, run.train_eval, run.val)
        # Recorded before the weights change, so that the run can keep a copy of them.
        details = {"layers": planned.layers, "left_alone": planned.left_alone}
        run.record(
            "relearning",
            modalities=planned.diagnosis.to_dict(),
            options=planned.diagnosis.options.departures(),
            **{name: value for name, value in details.items() if value},
        )
        self._relearn.carry_out(planned, run.epoch, run.model, run.train_eval)

    def state_dict(self) -> dict[str, Any]:
        """Return the initial weights and the history."""
        return self._relearn.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over an interrupted run."""
        self._relearn.load_state_dict(state)

    def _every(self, total_epochs: int) -> int:
        if self.every is not None:
            return self.every
        return max(1, round(total_epochs * PAPER_EVERY / PAPER_EPOCHS))


def _without_file(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with a target that can be checked before the model is there."""
    target = options.get("target")
    is_file = isinstance(target, str) and target.endswith(SUFFIX)
    return {**options, "target": "init"} if is_file else dict(options)


def _epochs(epochs: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if epochs is None else tuple(epochs)
