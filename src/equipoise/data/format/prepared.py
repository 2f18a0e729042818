"""The prepared format, common to all datasets: one memory-mapped array for each modality.

A prepared dataset is a folder with `dataset.json` (modalities, classes, licence, fingerprint), `index.csv`
(one row for each sample: id, target, split, group, a content hash for each modality) and one `.npy` file for
each modality.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from equipoise.cache import DESCRIPTION_FILE
from equipoise.data.format.content import chunks, digest, row_hashes
from equipoise.data.format.folder import (
    INDEX_FILE,
    PREPARATION_FILE,
    TASKS,
    check_inside,
    listed,
    read_description,
)
from equipoise.data.format.modality import ModalitySpec
from equipoise.files.arrays import read_array
from equipoise.files.csv_cells import read_csv
from equipoise.files.untrusted import ABSENT, parsing, read_json
from equipoise.types import DataError, UsageError, check_known

Stamp = tuple[int, int, int] | None
"""Of a file: its number, size and time of the last change; None where there is no file."""


@dataclass(frozen=True, eq=False, repr=False)
class PreparedDataset:
    """A prepared dataset on disk; features are read on demand.

    Attributes:
        path: its folder.
        name: of the dataset, in tables.
        modalities: modality name to its description, in the order in which they were written.
        classes: names of the classes or labels, in order of their index; empty for a numeric target.
        target: class indices `[N]` (int64); with `task="regression"` values `[N]` (float64), with
            `task="multilabel"` 0 or 1 for each label `[N, C]` (int64).
        split: `"train"`, `"val"` or `"test"` for each sample `[N]`, or None if the dataset has no
            fixed splits.
        group: speaker, subject or video of each sample `[N]`, never divided between splits; or None.
        ids: a unique name for each sample `[N]`.
        licence: terms of use, if known.
        source: where the data come from, if known.
        fingerprint: changes with any sample, label, split, group, id or modality; independent of folder and
            time.
        content_hashes: modality name to a hash of each sample's features `[N]`.
        task: `"classification"`, `"multilabel"` or `"regression"`.
        preparation: how the dataset was made from files; empty if it was not.
    """

    path: Path
    name: str
    modalities: dict[str, ModalitySpec]
    classes: tuple[str, ...]
    target: NDArray[Any]
    split: NDArray[np.str_] | None
    group: NDArray[np.str_] | None
    ids: NDArray[np.str_]
    licence: str | None
    source: str | None
    fingerprint: str
    content_hashes: dict[str, NDArray[np.str_]]
    task: str = "classification"
    preparation: Mapping[str, Any] = field(default_factory=dict)
    _stamps: dict[str, Stamp] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for column in (self.target, self.split, self.group, self.ids, *self.content_hashes.values()):
            if column is not None:
                column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.target)

    def __fspath__(self) -> str:
        """Return the folder, so that a dataset can be used in place of its path."""
        return str(self.path)

    def __repr__(self) -> str:
        modalities = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in self.modalities.values())
        kind = "labels" if self.task == "multilabel" else "classes"
        target = f"{len(self.classes)} {kind}" if self.classes else "a numeric target"
        return f"<PreparedDataset {self.name!r}: {len(self)} samples, {target}, {modalities}>"

    def array(self, modality: str) -> NDArray[Any]:
        """Return a read-only memory map `[N, ...]` of one modality as stored, not normalised.

        Raises:
            UnknownNameError: the dataset has no such modality.
            DataError: the array file is missing or does not match `dataset.json`.
        """
        check_known("modality", [modality], self.modalities)
        return _open_array(self.path, self.modalities[modality], len(self))

    def only(self, modalities: Sequence[str]) -> PreparedDataset:
        """Return the dataset with these modalities alone, as if it had been written without the others.

        Raises:
            UnknownNameError: the dataset has no such modality.
            UsageError: no modality is named, or one twice.
        """
        check_known("modality", modalities, self.modalities)
        if not modalities or len(set(modalities)) < len(modalities):
            raise UsageError(f"modalities is {list(modalities)}; expected one or more, each of them once.")
        specs = {name: spec for name, spec in self.modalities.items() if name in modalities}
        hashes = {name: self.content_hashes[name] for name in specs}
        columns = {"id": self.ids, "target": self.target, "split": self.split, "group": self.group}
        fingerprint = dataset_fingerprint(specs, self.classes, columns, hashes)
        return replace(self, modalities=specs, content_hashes=hashes, fingerprint=fingerprint)

    def check_unchanged(self, modality: str) -> None:
        """Check that the array of a modality is the one that was opened, right before it is read.

        A file that has become shorter would end the process (SIGBUS), as it is mapped into memory; one that
        was written again would mix samples. Where the file is another one, its content decides.

        Raises:
            DataError: it is missing, shorter or changed.
        """
        stamp = _stamp(self.path / self.modalities[modality].file)
        if stamp is None or stamp != self._stamps.setdefault(modality, stamp):
            self.verify([modality])
            self._stamps[modality] = stamp

    def verify(self, modalities: Iterable[str] | None = None) -> None:
        """Read the arrays, all or some, and compare them with the hashes stored when they were written.

        Raises:
            DataError: features have changed; the message names the modality and the first samples.
        """
        for name in self.modalities if modalities is None else modalities:
            spec = self.modalities[name]
            array, expected = self.array(name), self.content_hashes[name]
            changed: list[str] = []
            for part in chunks(len(self), spec.row_bytes):
                found = np.array(row_hashes(array[part]), dtype=np.str_)
                changed += self.ids[part][found != expected[part]].tolist()
            if changed:
                raise DataError(
                    f"modality {name!r} of {self.path}: {len(changed)} samples were changed after they were "
                    f"written ({listed(changed)}); write the dataset again."
                )


def open_dataset(folder: str | os.PathLike[str]) -> PreparedDataset:
    """Open a folder written by `write_dataset`; arrays are mapped, not read.

    Raises:
        DataError: the folder does not exist, holds no prepared dataset or one of a newer format, or a file is
            missing, damaged or changed. (`PreparedDataset.verify` also checks the features.)
    """
    path = Path(folder).expanduser().resolve()
    described = read_description(path)
    with parsing(lambda found: DataError(f"the dataset in {path} is damaged ({found}); write it again.")):
        dataset = _assemble(path, described)
        recorded = str(described["fingerprint"])
    if dataset.fingerprint != recorded:
        raise DataError(
            f"{INDEX_FILE} or {DESCRIPTION_FILE} in {path} was changed after writing (fingerprint "
            f"{dataset.fingerprint}, recorded {recorded}); write the dataset again with the labels and "
            "splits you want."
        )
    for spec in dataset.modalities.values():
        dataset._stamps[spec.name] = _stamp(path / spec.file)
        _open_array(path, spec, len(dataset))
    return dataset


def _assemble(path: Path, described: Mapping[str, Any]) -> PreparedDataset:
    specs = {item["name"]: ModalitySpec.from_dict(item) for item in described["modalities"]}
    for spec in specs.values():
        if Path(spec.file).name != spec.file:
            raise DataError(f"{path / DESCRIPTION_FILE} names the file {spec.file!r} outside its folder.")
    check_inside(path / INDEX_FILE)
    index = read_csv(
        path / INDEX_FILE,
        lambda found: DataError(f"{path / INDEX_FILE} cannot be read ({found}); write the dataset again."),
        dtype=str,
        keep_default_na=False,
        na_filter=False,
        encoding_errors="surrogatepass",
    )
    if len(index) != described["n"]:
        raise DataError(
            f"{path / INDEX_FILE} has {len(index)} rows, {DESCRIPTION_FILE} says {described['n']}."
        )
    task = described.get("task", "classification")
    if task not in TASKS:
        raise DataError(f"{path / DESCRIPTION_FILE} names the task {task!r}; expected {' or '.join(TASKS)}.")
    ids = _texts(index["id"])
    target = _target(index["target"].tolist(), task)
    split = _texts(index["split"]) if described["has_split"] else None
    group = _texts(index["group"]) if described["has_group"] else None
    hashes = {name: _texts(index[spec.hash_column]) for name, spec in specs.items()}
    classes, record = tuple(map(str, described["classes"])), path / PREPARATION_FILE
    check_inside(record)
    columns = {"id": ids, "target": target, "split": split, "group": group}

    def refuse_record(found: str) -> DataError:
        return DataError(f"{record} cannot be read ({found}); prepare the dataset again.")

    return PreparedDataset(
        path=path,
        name=described["name"],
        modalities=specs,
        classes=classes,
        target=target,
        split=split,
        group=group,
        ids=ids,
        licence=described["licence"],
        source=described["source"],
        fingerprint=dataset_fingerprint(specs, classes, columns, hashes),
        content_hashes=hashes,
        task=task,
        preparation=read_json(record, refuse_record) if record.exists() else {},
    )


def dataset_fingerprint(
    specs: Mapping[str, ModalitySpec],
    classes: tuple[str, ...],
    columns: Mapping[str, NDArray[Any] | None],
    hashes: Mapping[str, NDArray[np.str_]],
) -> str:
    """Hash modalities, classes, columns of the index and content hashes `[N]` of a dataset."""
    named = {name: None if column is None else column.tolist() for name, column in columns.items()}
    contents = [(name, hashes[name].tolist()) for name in specs]
    return digest([spec.to_dict() for spec in specs.values()], list(classes), named, contents)


def _target(texts: list[str], task: str) -> NDArray[Any]:
    if task == "multilabel":
        return np.array([[int(label) for label in text] for text in texts], dtype=np.int64)
    return np.array(texts, dtype=np.float64 if task == "regression" else np.int64)


def _stamp(file: Path) -> Stamp:
    """Return what changes when a file is written: equal stamps are compared, and no times."""
    try:
        state = file.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def _texts(column: pd.Series[str]) -> NDArray[np.str_]:
    return np.array(column.tolist(), dtype=np.str_)


def _open_array(folder: Path, spec: ModalitySpec, count: int) -> NDArray[Any]:
    file, expected = folder / spec.file, (count, *spec.shape)
    what = f"{file}, the array of modality {spec.name!r},"

    def refuse(found: str) -> DataError:
        return DataError(f"{what} is truncated or damaged ({found}); write the dataset again.")

    check_inside(file)
    try:
        array = read_array(file, refuse, mapped=True)
    except ABSENT:
        raise DataError(f"{what} is missing; write the dataset again.") from None
    if array.shape != expected or array.dtype != np.dtype(spec.dtype):
        raise DataError(
            f"{file} holds {array.dtype} {list(array.shape)}, expected {spec.dtype} {list(expected)} for "
            f"modality {spec.name!r}; write the dataset again."
        )
    return array
