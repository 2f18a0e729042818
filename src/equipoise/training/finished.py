"""A finished run: its result, with the model, read from the run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.files.untrusted import parsing
from equipoise.methods import create_method
from equipoise.models import BalancedModel
from equipoise.models.local_weights import without_weights
from equipoise.training.assembly import ModelSpec, build_for, build_reference
from equipoise.training.option_text import from_options
from equipoise.training.record.events import REMEDY
from equipoise.training.record.files import read_weights
from equipoise.training.record.history import RecordedDiagnosis, read_diagnoses
from equipoise.training.record.record import DIAGNOSES, RESULT, WEIGHTS, RunRecord
from equipoise.types import InNotebooks, RunFolderError

if TYPE_CHECKING:
    import pandas as pd

    from equipoise.data import PreparedDataset


@dataclass(frozen=True)
class FitResult(InNotebooks):
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

    def predict(
        self,
        data: str | os.PathLike[str] | PreparedDataset | Mapping[str, Any] | None = None,
        *,
        source: str | os.PathLike[str] | None = None,
        split: str | None = None,
        without: str | Sequence[str] = (),
        batch_size: int | None = None,
        device: str = "auto",
        workers: int = 1,
    ) -> pd.DataFrame:
        """Predict samples, and say what each modality contributed to each prediction (`docs/predict.md`).

        The samples are normalised by the statistics of the run's training split, which are in its folder: the
        data that it was trained on are not needed.

        Args:
            data: name of a dataset, folder of a prepared one, or arrays `[N, ...]` by modality.
            source: raw files instead, in the layout of those that the training data were prepared from; they
                are read in the same way. Labels are not needed in a table.
            split: `train`, `val` or `test` of data that have splits, or of the run's own data. By default all
                samples. Whenever the run's own test split is read, its record notes that.
            without: modalities that are left out: the mean feature of the training split stands in for them.
            batch_size: by default that of the training.
            device: `auto`, `cpu`, `cuda` or `mps`.
            workers: processes that decode raw files.

        Returns:
            One row per sample, in order: `id`; `split` and `target` where they are known; `predicted`, the
            name of the class, the number in the target's units, or the labels joined by "; ". Classes have
            their probabilities `p:NAME` and `confidence`, that of the predicted one; labels have `p:NAME`.
            `contribution:MODALITY` is the Shapley value of a modality in `confidence` (in `predicted` for a
            number). The contributions add up to `confidence - confidence:none` (`predicted -
            predicted:none`), which is the value where all features are mean ones. There are none for labels.
            `.attrs["lost"]` says which raw samples could not be read.

        Raises:
            UsageError: neither or both of `data` and `source`, or an unknown name.
            DataError: the samples are not like those of the run; the message names the difference.
            ModelError: the model cannot do without a modality.
            RunFolderError: the run was made by a version that kept no statistics, and its data are gone.
        """
        from equipoise.training.prediction.predict import predict_of_run
        from equipoise.training.prediction.used_run import UsedRun

        return predict_of_run(
            UsedRun.of(RunRecord(self.run_dir), self.model, self.summary),
            data,
            source=source,
            split=split,
            without=without,
            batch_size=batch_size,
            device=device,
            workers=workers,
        )


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

    settings = from_options(record.options())
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
