"""A finished run: its result, with the model, read from the run folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.files.untrusted import parsing
from equipoise.methods import create_method
from equipoise.models import BalancedModel
from equipoise.models.local_weights import without_weights
from equipoise.training.assembly import ModelSpec, build_for, build_reference
from equipoise.training.option_text import recorded_settings
from equipoise.training.record.events import REMEDY
from equipoise.training.record.files import read_weights
from equipoise.training.record.history import RecordedDiagnosis, read_diagnoses
from equipoise.training.record.record import CONFIG, DIAGNOSES, RESULT, WEIGHTS, RunRecord
from equipoise.training.trained import TrainedModel
from equipoise.types import InNotebooks, RunFolderError

if TYPE_CHECKING:
    from equipoise.training.prediction.used_run import UsedRun


@dataclass(frozen=True)
class FitResult(TrainedModel, InNotebooks):
    """The result of a training run.

    Attributes:
        test: `loss` and the task's figures (`accuracy` and `macro_f1` for classes, see `equipoise.tasks`) on
            the test split, measured once, with the weights of the best epoch.
        validation: the same on validation, of the best epoch.
        best_epoch: the epoch (0-based) whose weights were kept.
        diagnoses: in order, each with its `epoch` and `event`: the re-learnings, and the diagnoses in between
            that change nothing.
        run_dir: folder of the run record.
        model: the model with the weights of the best epoch, in evaluation mode. For a numeric target it
            predicts the standardised value; `summary["target_scale"]` has mean and deviation.
        summary: all of `result.json`: fingerprints, cost, probes, environment.
    """

    shown_as = "run"

    test: dict[str, float]
    validation: dict[str, float]
    best_epoch: int
    diagnoses: list[RecordedDiagnosis]
    run_dir: Path
    model: BalancedModel
    summary: dict[str, Any]

    @property
    def relearnings(self) -> list[RecordedDiagnosis]:
        """The diagnoses that were followed by a re-learning."""
        return [diagnosis for diagnosis in self.diagnoses if diagnosis.event == "relearning"]

    def used(self) -> UsedRun:
        """Return the run as what uses it needs it."""
        from equipoise.training.prediction.used_run import UsedRun

        return UsedRun.of(RunRecord(self.run_dir), self.model, self.summary)


def load_run(folder: str | os.PathLike[str]) -> FitResult:
    """Read a finished run, its model included.

    Raises:
        RunFolderError: there is no run, it is not finished, or a file of it is damaged or was changed.
    """
    record = RunRecord(Path(folder))
    result = record.result()
    record.check_settings()

    def refuse(found: str) -> RunFolderError:
        return RunFolderError(f"{record.path(RESULT)} fits no run ({found}). {REMEDY}")

    settings = recorded_settings(record.options(), record.path(CONFIG))
    # All weights are in the record. The files that training started from may be missing.
    settings = replace(settings, encoder_options=without_weights(settings.encoder_options))
    with parsing(refuse):
        spec, best_epoch = ModelSpec.from_dict(result["model_spec"]), result["best_epoch"]
        method = create_method(settings.method, settings.method_options)
        model = build_for(method, settings, build_reference(settings, spec))
    read_weights(record.checked(WEIGHTS), model)
    return FitResult(
        test=result["test"],
        validation=result["validation"],
        best_epoch=best_epoch,
        diagnoses=read_diagnoses(record.events(DIAGNOSES)),
        run_dir=record.folder,
        model=model.eval(),
        summary=result,
    )
