"""The learning state of a finished run's model, or of features in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis import Diagnosis, DiagnosisOptions, collect_features, diagnose_with
from equipoise.training import RunRecord, from_options, load_run
from equipoise.training.assembly import prepare_data
from equipoise.training.threads import cpu_threads
from equipoise.types import DataError, RunFolderError

LABELS = {"train": "train_labels", "val": "val_labels"}


def diagnose_run(run_dir: str | os.PathLike[str], *, preset: str = "paper", **options: Any) -> Diagnosis:
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
    choices = DiagnosisOptions.preset(preset, **options)
    result = load_run(run_dir)
    _, data = prepare_data(from_options(RunRecord(Path(run_dir)).options()))
    held = result.summary
    if (data.dataset_fingerprint, data.split_fingerprint) != (
        held["data_fingerprint"],
        held["split_fingerprint"],
    ):
        raise RunFolderError(
            f"the data of the run in {run_dir} have changed since it was made (their fingerprint differs); "
            "train again to diagnose it."
        )
    model = result.model
    encoders = {name: model.encoder_module(name) for name in model.modalities}
    with cpu_threads(model):
        train = collect_features(encoders, model, data.train_eval)
        val = collect_features(encoders, model, data.val)
    return diagnose_with(choices, train.features, train.target, val.features, val.target)


def diagnose_arrays(file: str | os.PathLike[str], *, preset: str = "paper", **options: Any) -> Diagnosis:
    """Measure the learning state of features that were saved to an `.npz` file.

    The file holds, for each modality NAME, `train_NAME [N, d]` and `val_NAME [N_val, d]`, and the classes
    `train_labels [N]` and `val_labels [N_val]`.

    Raises:
        DataError: the file cannot be read or lacks an array, or the arrays do not fit.
    """
    choices = DiagnosisOptions.preset(preset, **options)
    arrays = _read_arrays(Path(file))
    features: dict[str, dict[str, NDArray[Any]]] = {"train": {}, "val": {}}
    for key, values in arrays.items():
        split, _, name = key.partition("_")
        if key in LABELS.values():
            continue
        if split not in features or not name:
            raise DataError(
                f"{file} holds an array {key!r}; expected train_NAME and val_NAME for each modality, and "
                "train_labels and val_labels."
            )
        features[split][name] = values
    for split, key in LABELS.items():
        if key not in arrays:
            raise DataError(f"{file} lacks the array {key!r}: the classes of the {split} samples.")
    return diagnose_with(
        choices, features["train"], arrays["train_labels"], features["val"], arrays["val_labels"]
    )


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"{path} holds a single array; expected an .npz file, written by numpy.savez.")
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; expected an .npz file, written by numpy.savez.") from None
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"cannot read {path}: {line}; expected an .npz file of plain arrays, written by numpy.savez."
        ) from None
