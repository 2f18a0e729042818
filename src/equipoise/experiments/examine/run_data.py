"""A finished run together with the data it was trained on."""

from __future__ import annotations

import os
from pathlib import Path

from equipoise.data import RunData
from equipoise.training.assembly import prepare_data
from equipoise.training.fit import FitResult, load_run
from equipoise.training.option_text import from_options
from equipoise.training.record import fingerprints
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Settings
from equipoise.types import RunFolderError


def open_run(run_dir: str | os.PathLike[str]) -> tuple[FitResult, Settings, RunData]:
    """Read a finished run and its data.

    Raises:
        RunFolderError: there is no finished run, or the data have changed since.
        DataError, UnknownNameError: the run's data are no longer there.
    """
    result = load_run(run_dir)
    settings = from_options(RunRecord(Path(run_dir)).options())
    _, data = prepare_data(settings)
    found = fingerprints.of_data(data)
    if changed := [key for key, value in found.items() if result.summary[key] != value]:
        raise RunFolderError(
            f"the data of the run in {run_dir} have changed since it was made ({', '.join(changed)} differ); "
            "train again."
        )
    return result, settings, data
