"""The learning state of a finished run's model."""

from __future__ import annotations

import os
from typing import Unpack

from equipoise.diagnosis import Diagnosis, DiagnosisOptions
from equipoise.diagnosis.diagnose import options_for
from equipoise.diagnosis.estimate import diagnose_with, usual_options
from equipoise.experiments.examine.run_data import open_run, run_features
from equipoise.keywords import DiagnosisKeywords
from equipoise.tasks import MULTILABEL


def diagnose_run(
    run_dir: str | os.PathLike[str], *, preset: str = "paper", **options: Unpack[DiagnosisKeywords]
) -> Diagnosis:
    """Measure the learning state of every modality with the weights that a run has kept.

    The run's data are read again, its train and validation splits only.

    Args:
        run_dir: folder of a finished run.
        preset: `paper` or `robust`.
        **options: changes to the preset, see `DiagnosisOptions`.

    Raises:
        RunFolderError: there is no finished run, or the data have changed since.
        DataError, UnknownNameError: the run's data are no longer there.
    """
    DiagnosisOptions.check_call(diagnose_run, preset, options)
    result, _, data = open_run(run_dir)
    features = run_features(result.model, data)
    # Labels are measured as such, also where each sample has one.
    usual = usual_options("labels", options) if data.task == MULTILABEL.name else {}
    return diagnose_with(options_for(preset, {**usual, **options}, features.y, features.y_val), *features)
