"""Methods that diagnose the encoders after some epochs, and pull them toward their initial weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Final

from torch import nn

from equipoise.diagnosis.estimate import usual_options
from equipoise.diagnosis.measures.catalogue import AUXILIARY_HEAD, MEASURES
from equipoise.methods.core.method import Method
from equipoise.methods.core.run import Plan, Run
from equipoise.relearning.options import DIAGNOSIS_OPTIONS, RELEARN_OPTIONS, split_options
from equipoise.relearning.schedule import RelearningSchedule
from equipoise.relearning.selection import select_parameters, selection_by_modality
from equipoise.relearning.strength import check_layers, lam_by_modality
from equipoise.relearning.targets import SUFFIX, with_target_file
from equipoise.tasks import CLASSIFICATION, MULTILABEL, REGRESSION
from equipoise.typed_options import check_types
from equipoise.types import UsageError, check_known

if TYPE_CHECKING:
    from equipoise.models import BalancedModel

TARGETS: Final = {CLASSIFICATION.name: "classes", MULTILABEL.name: "labels", REGRESSION.name: "continuous"}
"""Kinds of targets, as in `Measure.target`, by task."""


@dataclass
class Relearns(Method, ABC):
    """A method that re-learns by `DiagnoseRelearn`; a subclass says after which epochs.

    Attributes:
        lam: the paper's `lambda`, for all modalities or by name.
        preset: `paper`, `robust` or `held-out`, see `equipoise.diagnosis.options.PRESETS`.
        more: further fields of `RelearnOptions` and `DiagnosisOptions`; `target` may be the path of a
            `.safetensors` file with the names `MODALITY.PARAMETER`, such as pretrained weights.
    """

    lam: float | dict[str, float] = 3.0
    preset: str = "paper"
    more: dict[str, Any] = field(default_factory=dict)

    usual: ClassVar[Mapping[str, Any]] = {}
    """Fields of `RelearnOptions` and `DiagnosisOptions` in which a method departs from the paper."""

    @classmethod
    def create(cls, options: Mapping[str, Any]) -> Method:
        """Build the method; options that are no fields go to `RelearnOptions` and `DiagnosisOptions`."""
        own = cls._own_options()
        check_known(f"option of {cls.name!r}", options, cls.option_names())
        check_types(cls, options, f"of {cls.name!r}")
        more = {key: value for key, value in options.items() if key not in own}
        if isinstance(more.get("target"), Mapping):
            raise UsageError(
                "the option 'target' holds tensors, which no run record can keep; give the path of a "
                ".safetensors file with the names MODALITY.PARAMETER."
            )
        if more.get("ema_policy", "keep") != "keep":
            raise UsageError(
                "the option 'ema_policy' is for averaged copies of a model (`ema=` of DiagnoseRelearn); "
                "there are none here, so leave it out."
            )
        if more.get("redraw_with"):
            raise UsageError(
                "the option 'redraw_with' holds functions, which no run record can keep; use DiagnoseRelearn "
                "in a loop of your own, or give the encoder's layers reset_parameters()."
            )
        split_options(str(options.get("preset", cls.preset)), _without_file({**cls.usual, **more}))
        return cls(**{key: value for key, value in options.items() if key in own}, more=more)

    @classmethod
    def _own_options(cls) -> list[str]:
        return [option.name for option in fields(cls) if option.name != "more"]

    @classmethod
    def option_names(cls) -> list[str]:
        """Return the fields, and those of `RelearnOptions` and `DiagnosisOptions`."""
        return list(dict.fromkeys([*cls._own_options(), *sorted(RELEARN_OPTIONS | DIAGNOSIS_OPTIONS)]))

    def options(self) -> dict[str, Any]:
        """Return the options, as plain values."""
        options = super().options()
        more: dict[str, Any] = options.pop("more")
        return options | more

    @abstractmethod
    def schedule(self, total_epochs: int) -> RelearningSchedule:
        """Return after which epochs the encoders are re-learnt."""

    def problems(self, plan: Plan) -> list[str]:
        """Say which planned re-learnings never fire, meet a tiny learning rate, or come too late."""
        rates = None if self.more.get("rewarm_steps") else self.learning_rates(plan)
        return super().problems(plan) + self.schedule(plan.epochs).problems(plan.epochs, rates)

    def stacks_now(self) -> bool:
        """Whether the learning rate stays as it is inside a step of the run's own optimiser."""
        return not self.more.get("rewarm_steps")

    def check(self, model: BalancedModel) -> None:
        """Check what the options say of modalities, layers and the task."""
        super().check(model)
        choices, measure = split_options(self.preset, _without_file(self.chosen(model.task)))
        lam_by_modality(self.lam, model.modalities)
        check_known("modality of only", choices.only or (), model.modalities)
        if measure.metric == AUXILIARY_HEAD and not self.has_heads():
            raise UsageError(
                f"metric={AUXILIARY_HEAD!r} is the accuracy of each modality's own head, and {self.name} has "
                "none with these options; choose another metric, or diagnose-relearn-plus with a weight."
            )
        suited = [
            name
            for name, one in MEASURES.items()
            if one.target == TARGETS[model.task] and (name != AUXILIARY_HEAD or self.has_heads())
        ]
        if "metric" in self.more and measure.metric not in suited:
            raise UsageError(
                f"metric={measure.metric!r} does not measure {model.task}; expected one of "
                f"{', '.join(suited)}, or none for the usual one."
            )
        selections = selection_by_modality(choices.parameters, model.modalities)
        selected = [select_parameters(model.encoder_module(m), choice) for m, choice in selections.items()]
        check_layers(choices, chain.from_iterable(selected))

    def chosen(self, task: str) -> dict[str, Any]:
        """Return the fields of `RelearnOptions` and `DiagnosisOptions` for a task, with those not given."""
        usual = dict(self.usual)
        if task != CLASSIFICATION.name:  # measured as numbers or labels usually are, see `DiagnoseRelearn`
            usual = {name: value for name, value in usual.items() if name not in ("metric", "assign")}
        options = {**usual, **self.more}
        if task == MULTILABEL.name:  # also where each sample has one label
            options = usual_options("labels", options) | options
        return options

    def has_heads(self) -> bool:
        """Whether each modality has a head of its own, with the present options."""
        return False

    def heads(self, run: Run) -> Mapping[str, nn.Module] | None:
        """Return the head of each modality, if it has one of its own."""
        return None

    def setup(self, run: Run) -> None:
        """Remember the initial weights."""
        super().setup(run)
        schedule = self.schedule(run.total_epochs)
        options = self.chosen(run.model.task)
        if options.get("head_policy", "keep") != "keep":
            options["head"] = self._head(run)
        self._relearn = run.relearner(
            schedule.every,
            schedule.count,
            self.lam,
            epochs=schedule.epochs,
            preset=self.preset,
            heads=self.heads(run),
            **with_target_file(options, run.model.modalities),
        )

    def _head(self, run: Run) -> nn.Module:
        """Return all that reads features: the fusion, the joint head, and the head of each modality."""
        own = (parameter for head in (self.heads(run) or {}).values() for parameter in head.parameters())
        fusion = (parameter for _, parameter in run.model.fusion_parameters())
        return nn.ParameterList(dict.fromkeys(chain(fusion, own)))

    def epoch_end(self, run: Run) -> None:
        """Diagnose and re-learn where it is due."""
        self._relearn.track()
        if not self._relearn.due(run.epoch):
            return
        planned = self._relearn.plan(run.whole, run.train_eval, run.val)
        # Recorded before the weights change, so that the run can keep a copy of them.
        details = {"layers": planned.layers, "left_alone": planned.left_alone}
        run.record(
            "relearning",
            modalities=planned.diagnosis.to_dict(),
            options=planned.diagnosis.options.departures(),
            **{name: value for name, value in details.items() if value},
        )
        self._relearn.carry_out(planned, run.epoch, run.whole, run.train_eval)

    def state_dict(self) -> dict[str, Any]:
        """Return the initial weights and the history."""
        return {**super().state_dict(), **self._relearn.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over an interrupted run."""
        super().load_state_dict(state)
        self._relearn.load_state_dict(state)


def _without_file(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with a target that can be checked before the model is there."""
    target = options.get("target")
    is_file = isinstance(target, str) and target.endswith(SUFFIX)
    return {**options, "target": "init"} if is_file else dict(options)
