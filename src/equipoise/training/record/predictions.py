"""The predictions of a run's kept weights for validation and test, so that test is not opened again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from equipoise.files.arrays import arrays_in
from equipoise.files.whole import replaced
from equipoise.tasks import CLASSIFICATION
from equipoise.training.record.record import PREDICTIONS, RunRecord
from equipoise.types import RunFolderError, UsageError, check_known

SPLITS: Final = ("val", "test")


@dataclass(frozen=True)
class Predictions:
    """The predictions of one split, in its order.

    Attributes:
        predicted: class indices `[n]` (int64); of labels 0 or 1 `[n, C]`, of numbers `[n]` (float64).
        target: the true values, likewise.
        probability: of the true class `[n]` (float32); of each label `[n, C]`; NaN of numbers.
        index: row of each sample in the dataset `[n]` (int64), by which runs are paired.
    """

    predicted: NDArray[Any]
    target: NDArray[Any]
    probability: NDArray[np.float32]
    index: NDArray[np.int64]


FIELDS: Final = tuple(field.name for field in fields(Predictions))


def write_predictions(path: Path, splits: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write the predictions of `Evaluation`, whole or not at all; equal ones give equal bytes."""
    arrays: dict[str, Any] = {
        f"{split}_{name}": splits[split][name].numpy() for split in SPLITS for name in FIELDS
    }
    with replaced(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_predictions(run_dir: str | os.PathLike[str]) -> dict[str, Predictions] | None:
    """Read the predictions of a finished run, by split (`val`, `test`).

    Returns:
        None for runs of versions that kept no predictions.

    Raises:
        RunFolderError: there is no finished run, or the file is damaged.
    """
    record = RunRecord(Path(run_dir))
    record.result()  # raises where there is none
    path = record.checked(PREDICTIONS)
    if not path.is_file():
        return None

    def refuse(what: str) -> RunFolderError:
        return RunFolderError(f"cannot read {path}: {what}. Run again.")

    held = arrays_in(path, refuse, [f"{split}_{name}" for split in SPLITS for name in FIELDS])
    found = {split: Predictions(**{name: held[f"{split}_{name}"] for name in FIELDS}) for split in SPLITS}
    for split, values in found.items():
        shapes = {getattr(values, name).shape[:1] for name in FIELDS}
        if len(shapes) > 1 or shapes == {()}:
            raise RunFolderError(
                f"{path} holds arrays of the shapes {sorted(shapes)} for {split}; expected four of one "
                "length. Run again."
            )
    return found


def confusion(run_dir: str | os.PathLike[str], split: str = "test") -> NDArray[np.int64]:
    """Return how often each class was predicted as each other class.

    Args:
        run_dir: folder of a finished run.
        split: `val` or `test`.

    Returns:
        Counts `[C, C]`: row the true class, column the predicted one, in the order of the result's `classes`.

    Raises:
        UnknownNameError: there are no predictions of such a split.
        RunFolderError: there is no finished run, it keeps no predictions, or they are damaged.
        UsageError: the target of the run is not a class.
    """
    check_known("split", [split], SPLITS)
    predictions = read_predictions(run_dir)
    if predictions is None:
        raise RunFolderError(
            f"the run in {run_dir} was made by a version that kept no predictions; train it again."
        )
    target, predicted = predictions[split].target, predictions[split].predicted
    result = RunRecord(Path(run_dir)).result()
    if result.get("task", CLASSIFICATION.name) != CLASSIFICATION.name:
        raise UsageError(f"the run in {run_dir} is {result['task']}; a confusion matrix needs classes.")
    count = len(result["classes"])
    named = np.concatenate([target, predicted])
    if len(named) and not 0 <= named.min() <= named.max() < count:
        raise RunFolderError(
            f"the predictions in {run_dir} name classes outside 0 to {count - 1}; run again."
        )
    pairs = np.bincount(target * count + predicted, minlength=count * count)
    return pairs.reshape(count, count).astype(np.int64)
