"""Features saved with `numpy.savez`: names are checked first, arrays are read when they are used."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from equipoise.experiments.examine.run_data import SplitFeatures
from equipoise.files.arrays import arrays_in, names_in
from equipoise.files.untrusted import Refuse, parsing
from equipoise.types import DataError, PathError

Split = Literal["train", "val"]
SPLITS: Final[tuple[Split, ...]] = ("train", "val")
KEYS: Final = "train_NAME and val_NAME for each modality, train_labels and val_labels"


class SavedFeatures:
    """The arrays of an `.npz` file: `train_NAME`, `val_NAME`, their labels, and perhaps `classes`.

    Attributes:
        modalities: their names, in the order of the file's training arrays.

    Raises:
        PathError: it is no such file.
        DataError: it cannot be read, lacks an array, or holds one of another name.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.path = Path(file)
        self._keys = self._read_keys()
        names = {split: self._names(split) for split in SPLITS}
        known = {f"{split}_{name}" for split in SPLITS for name in ("labels", *names[split])} | {"classes"}
        if unknown := [key for key in self._keys if key not in known]:
            raise DataError(f"{self.path} holds an array {unknown[0]!r}; expected {KEYS}.")
        for split in SPLITS:
            if f"{split}_labels" not in self._keys:
                raise DataError(
                    f"{self.path} lacks the array '{split}_labels': the classes of the {split} samples."
                )
        if not names["train"] and not names["val"]:
            raise DataError(f"{self.path} holds labels and no features; expected {KEYS}.")
        for one, other in (SPLITS, SPLITS[::-1]):
            lacking = [name for name in names[one] if name not in names[other]]
            if lacking:
                raise DataError(
                    f"{self.path} holds {one}_{lacking[0]} and lacks {other}_{lacking[0]}; expected the same "
                    "names in both splits."
                )
        self.modalities = names["train"]

    def features(self) -> SplitFeatures:
        """Return both splits; each access to the features of a modality `[N, d]` reads a new array."""
        y, y_val = self._labels("train"), self._labels("val")
        return SplitFeatures(_Arrays(self, "train"), y, _Arrays(self, "val"), y_val)

    def _labels(self, split: Split) -> NDArray[Any]:
        """Return the labels of a split `[N]`, checked against the names in `classes` if there are any."""
        labels = self.read(f"{split}_labels")
        if "classes" not in self._keys:
            return labels
        classes = self.read("classes")
        whole = np.issubdtype(labels.dtype, np.integer)
        if (
            classes.ndim != 1
            or not whole
            or (len(labels) and not 0 <= labels.min() <= labels.max() < len(classes))
        ):
            raise DataError(
                f"{self.path}: {split}_labels do not fit the {len(classes) if classes.ndim else 0} names in "
                "'classes'; expected whole numbers from 0, one name each."
            )
        return labels

    def class_names(self) -> tuple[str, ...] | None:
        """Return the names in `classes`; None where the file has none."""
        return tuple(str(name) for name in self.read("classes")) if "classes" in self._keys else None

    def read(self, key: str) -> NDArray[Any]:
        """Read one array."""
        return arrays_in(self.path, self._unreadable(f"the array {key!r} of {self.path}"), [key])[key]

    def _names(self, split: Split) -> list[str]:
        start = f"{split}_"
        found = [key.removeprefix(start) for key in self._keys if key.startswith(start)]
        return [name for name in found if name and name != "labels"]

    def _read_keys(self) -> list[str]:
        refuse = self._unreadable(str(self.path))
        whole = self.path.is_file()
        with parsing(refuse):
            if whole:
                with self.path.open("rb") as file:
                    whole = zipfile.is_zipfile(file)
        if not whole:
            found = "is no .npz file, or is cut off" if self.path.exists() else "does not exist"
            raise PathError(f"{self.path} {found}; expected an .npz file, written by numpy.savez.")
        return names_in(self.path, refuse)

    @staticmethod
    def _unreadable(what: str) -> Refuse:
        return lambda found: DataError(
            f"cannot read {what}: {found}; expected an .npz file of plain arrays, written by numpy.savez."
        )


class _Arrays(Mapping[str, NDArray[Any]]):
    def __init__(self, file: SavedFeatures, split: Split) -> None:
        self._file, self._split = file, split

    def __getitem__(self, modality: str) -> NDArray[Any]:
        if modality not in self._file.modalities:
            raise KeyError(modality)
        return self._file.read(f"{self._split}_{modality}")

    def __contains__(self, modality: object) -> bool:
        return modality in self._file.modalities

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.modalities)

    def __len__(self) -> int:
        return len(self._file.modalities)
