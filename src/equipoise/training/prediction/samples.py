"""The samples that are to be predicted, normalised as those of the run: prepared, arrays or raw files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.data import PreparedDataset, SplitData, load_dataset, splits_of, write_dataset
from equipoise.data.format.folder import SPLIT_NAMES
from equipoise.data.format.noise import ReadNoise
from equipoise.data.new_samples import prepare_new
from equipoise.data.prepare.engine import Observer
from equipoise.data.prepare.summary import losses_in_words
from equipoise.tasks import CLASSIFICATION, MULTILABEL, REGRESSION
from equipoise.training.assembly import check_unchanged
from equipoise.training.prediction.matching import check_there, matched
from equipoise.training.prediction.used_run import UsedRun
from equipoise.types import DataError, UsageError, warn

Data = str | os.PathLike[str] | PreparedDataset | Mapping[str, Any]
JOINED: Final = "; "
"""Between the labels of a sample that has several."""


@dataclass(frozen=True)
class Samples:
    """Samples that a model is to predict.

    Attributes:
        dataset: holds them, with the modalities that are read.
        rows: their rows in it, sorted `[n]`.
        split: the split of each of them `[n]`, where it is known.
        target: the true class, number or labels of each of them `[n]`, where they are labelled.
        opens_test: whether samples of the run's own test split are among them.
        lost: messages on samples that could not be read.
    """

    dataset: PreparedDataset
    rows: NDArray[np.int64]
    split: NDArray[np.str_] | None = None
    target: Sequence[Any] | None = None
    opens_test: bool = False
    lost: Sequence[str] = ()

    @property
    def ids(self) -> NDArray[np.str_]:
        """Their names `[n]`."""
        return self.dataset.ids[self.rows]

    def normalized(self, run: UsedRun) -> SplitData:
        """Return the samples, normalised, and with noise where the run's data have it."""
        specs = {m: run.inputs.specs[m] for m in self.dataset.modalities}
        normalizers = {m: run.inputs.normalizers[m] for m in specs}
        noise = ReadNoise(specs, normalizers, run.settings.seed)
        return SplitData(
            self.dataset, self.rows, normalizers=normalizers, noise=noise if noise.levels else None
        )


@contextmanager
def samples_of(
    run: UsedRun,
    modalities: Sequence[str],
    *,
    data: Data | None = None,
    source: str | os.PathLike[str] | None = None,
    split: str | None = None,
    workers: int = 1,
    observer: Observer | None = None,
) -> Iterator[Samples]:
    """Yield the samples of `data` or of raw files; arrays and raw files are in a temporary folder meanwhile.

    Args:
        run: whose model will read them.
        modalities: those that are read.
        data: name or folder of prepared data, or arrays `[N, ...]` by modality.
        source: raw files in the layout of those that the run's data were prepared from.
        split: of prepared data that have splits; None takes all samples.
        workers: processes that decode raw files.
        observer: receives the progress of that.

    Raises:
        EquipoiseError: there are no such data, or the model cannot read them.
    """
    if data is not None and not isinstance(data, Mapping):
        yield _prepared(run, data, split, modalities)
        return
    if split is not None:
        raise UsageError(f"split is {split!r}, and arrays and raw files have no splits; leave it out.")
    with tempfile.TemporaryDirectory(prefix="equipoise-", ignore_cleanup_errors=True) as folder:
        if data is not None:
            yield _of_arrays(run, data, modalities, Path(folder) / "arrays")
        else:
            assert source is not None
            yield _of_files(run, Path(source), modalities, Path(folder) / "files", workers, observer)


def _prepared(run: UsedRun, data: Any, split: str | None, modalities: Sequence[str]) -> Samples:
    whole = load_dataset(data)
    own = _as_trained(whole, run)
    if own is None:
        _say_ignored(repr(whole.name), whole.modalities, modalities)
    read = matched(whole, run.inputs.specs, modalities)
    check_unchanged(read)
    splits = whole.split
    if own is not None:
        splits = np.empty(len(own), dtype=f"<U{max(map(len, SPLIT_NAMES))}")
        for name, rows in splits_of(own, run.settings.splitting_seed).items():
            splits[rows] = name
    rows = np.arange(len(whole))
    if split is not None:
        if splits is None:
            raise UsageError(
                f"split is {split!r}, and {whole.name!r} has no splits and is not the data of the run; leave "
                "it out."
            )
        rows = np.flatnonzero(splits == split)
        if not len(rows):
            raise DataError(f"{whole.name!r} has no sample of the split {split!r}; choose another one.")
    return Samples(
        read,
        rows,
        split=None if splits is None else splits[rows],
        target=_targets(whole, rows) if whole.task == run.task.name else None,
        opens_test=own is not None and splits is not None and "test" in splits[rows],
    )


def _of_arrays(run: UsedRun, arrays: Mapping[str, Any], modalities: Sequence[str], folder: Path) -> Samples:
    check_there("the mapping of arrays", arrays, modalities)
    _say_ignored("the mapping of arrays", arrays, modalities)
    inputs = {m: arrays[m] for m in modalities}
    count = max((len(values) for values in inputs.values() if hasattr(values, "__len__")), default=0)
    dataset = write_dataset(
        folder,
        inputs,
        np.zeros(count),
        kinds={m: run.inputs.specs[m].kind for m in modalities},
        task=REGRESSION.name,
        name="arrays",
    )
    return Samples(matched(dataset, run.inputs.specs, modalities), np.arange(count))


def _of_files(
    run: UsedRun,
    source: Path,
    modalities: Sequence[str],
    folder: Path,
    workers: int,
    observer: Observer | None,
) -> Samples:
    found = prepare_new(
        run.inputs.preparation,
        source.expanduser(),
        folder,
        modalities,
        workers=workers,
        observer=observer,
    )
    dataset = matched(found.dataset, run.inputs.specs, modalities)
    if found.lost:
        total = len(dataset) + len(found.lost)
        warn(
            f"{len(found.lost)} of {total} samples of {source} cannot be read and are not predicted: "
            f"{losses_in_words(found.lost)}"
        )
    return Samples(
        dataset,
        np.arange(len(dataset)),
        target=[found.labels[name] for name in dataset.ids.tolist()] if found.labels else None,
        lost=[one.message for one in found.lost],
    )


def _as_trained(dataset: PreparedDataset, run: UsedRun) -> PreparedDataset | None:
    """Return the dataset as the run has seen it if it is the run's own, else None."""
    chosen = run.settings.modalities
    if chosen is not None:
        if not set(chosen) <= set(dataset.modalities):
            return None
        dataset = dataset.only(chosen)
    return dataset if dataset.fingerprint == run.summary.get("data_fingerprint") else None


def _say_ignored(what: str, found: Iterable[str], modalities: Sequence[str]) -> None:
    if ignored := [m for m in found if m not in modalities]:
        warn(f"{what} has {', '.join(map(repr, ignored))} as well, which is not read.")


def _targets(dataset: PreparedDataset, rows: NDArray[np.int64]) -> list[Any]:
    """Return the true class, number or labels of some samples, in words."""
    values: list[Any] = dataset.target[rows].tolist()
    if dataset.task == CLASSIFICATION.name:
        return [dataset.classes[value] for value in values]
    if dataset.task == MULTILABEL.name:
        return [labels_in_words(dataset.classes, row) for row in values]
    return values


def labels_in_words(names: Sequence[str], row: Sequence[int]) -> str:
    """Return the labels of a sample, of which `row` says 0 or 1."""
    return JOINED.join(name for name, present in zip(names, row, strict=True) if present)
