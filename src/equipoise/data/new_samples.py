"""Raw files of samples that are to be predicted, prepared in the same way as the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.datasets import DATASETS
from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.format.prepared import PreparedDataset
from equipoise.data.prepare.clips import UNLABELLED, ArrayPreparation, Lost, Preparation
from equipoise.data.prepare.engine import Observer, prepare
from equipoise.types import DataError, UnknownNameError, UsageError

ARRAYS = ("inputs", "ids", "kinds", "normalize", "contents", "noise")
"""What is kept of the arguments of `write_dataset`."""
REMEDY = "prepare the new samples like the training data, and give the folder as data (--data DIR)"


@dataclass(frozen=True)
class NewSamples:
    """Samples that are to be predicted, prepared.

    Attributes:
        dataset: the samples; its target is 0 for all.
        labels: id to label, as the source names it, if all samples have one; else empty.
        lost: those that could not be read.
    """

    dataset: PreparedDataset
    labels: Mapping[str, str | float]
    lost: Sequence[Lost]


def prepare_new(
    preparation: Mapping[str, Any],
    source: Path,
    folder: Path,
    modalities: Sequence[str],
    *,
    workers: int = 1,
    observer: Observer | None = None,
) -> NewSamples:
    """Read raw files with the readers of the training data.

    Args:
        preparation: how those were prepared: `dataset` (name and options) and `readers`.
        source: folder or file in the same layout; labels are not needed where it can do without.
        folder: is created for the prepared samples.
        modalities: those that are read; arrays that are stored together are all read.
        workers: processes that decode.
        observer: receives the progress.

    Raises:
        DataError: the training data were not prepared from files, or the record does not say how.
        EquipoiseError: see `SourceDataset.plan` and `prepare`.
    """
    dataset = _dataset(preparation)
    readers = preparation.get("readers", {})
    recorded = {name: described for name, described in readers.items() if name in modalities}
    if readers and not recorded:
        raise DataError(
            f"none of {', '.join(modalities)} was read from files, but {', '.join(readers)}; {REMEDY}."
        )
    found = dataset.new_samples(source, recorded)
    labels: dict[str, str | float] = {}
    if isinstance(found, Preparation):
        labels = {clip.id: clip.label for clip in found.clips if clip.label != UNLABELLED}
        labels = labels if len(labels) == len(found.clips) else {}
    done = prepare(_unlabelled(found), folder, workers=workers, allow_missing=True, observer=observer)
    return NewSamples(done.dataset, labels, done.summary.lost)


def _dataset(preparation: Mapping[str, Any]) -> SourceDataset:
    """Return the dataset by whose layout and options the training data were prepared."""
    made_by = preparation.get("dataset")
    if not made_by:
        found = "by a version that did not record how" if preparation.get("readers") else "as arrays"
        raise DataError(f"the training data were written {found}, so raw files cannot be read: {REMEDY}.")
    try:
        kind = DATASETS[made_by["name"]]
        if not issubclass(kind, SourceDataset):
            raise UsageError(f"{made_by['name']!r} is not prepared from files")
        return kind.from_options(made_by["options"])
    except (UnknownNameError, UsageError, KeyError, TypeError) as error:
        raise DataError(
            f"how the training data were prepared cannot be repeated ({error}): {REMEDY}."
        ) from error


def _unlabelled(found: Preparation | ArrayPreparation) -> Preparation | ArrayPreparation:
    """Return a preparation whose labels, splits and groups do not matter."""
    if isinstance(found, Preparation):
        clips = [replace(clip, split=None, group=None) for clip in found.clips]
        return replace(found, clips=clips, classes=None, labelled=False)
    kept = {name: found.arguments[name] for name in ARRAYS if name in found.arguments}
    target = np.zeros(len(next(iter(kept["inputs"].values()))))
    return replace(found, arguments={**kept, "target": target, "task": "regression"})
