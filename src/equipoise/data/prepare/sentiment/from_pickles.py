"""Read the published pickles of CMU-MOSI and CMU-MOSEI: of MulT, MultiBench and MMSA."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.folder import listed
from equipoise.data.prepare.sentiment.pickles import read_pickle
from equipoise.data.prepare.sentiment.utterances import (
    Text,
    Utterances,
    as_text,
    parse_name,
    replace_nonfinite,
    report_nonfinite,
)
from equipoise.types import DataError

_SPLITS = {"train": ("train",), "val": ("valid", "val", "dev"), "test": ("test",)}
_VALUES = {"regression_labels": "MMSA", "labels": "MultiBench"}
Parts = dict[str, MutableMapping[str, Any]]


@dataclass(frozen=True)
class _File:
    """The columns of a pickle by split, and the number of labels of each split."""

    path: Path
    parts: Parts
    lengths: dict[str, int]

    def take(self, key: str) -> dict[str, Any]:
        """Remove a column from all splits and return it; the caller can then free its memory."""
        if any(key not in part for part in self.parts.values()):
            raise _lacking(self.path, self.parts, key)
        column = {split: part.pop(key) for split, part in self.parts.items()}
        for split, values in column.items():
            if not hasattr(values, "__len__") or len(values) != self.lengths[split]:
                found = len(values) if hasattr(values, "__len__") else repr(values)
                raise DataError(
                    f"{self.path}: {key} of {split} has {found} entries, its labels {self.lengths[split]}; "
                    "get another copy."
                )
        return column

    def rows(self, key: str) -> list[Any]:
        """Remove a column and return its entries of all splits."""
        return [item for items in self.take(key).values() for item in items]


def read_utterances(path: Path, text: Text, nonfinite: str) -> Utterances:
    """Read a pickle with the splits train, valid and test, each a dictionary of columns.

    `text="features"` reads the column `text`, `"bert-tokens"` the token numbers in `text_bert`, `"hashed"`
    only `raw_text`. The splits are concatenated, and padded as in the file.

    Raises:
        DataError: the file is not such a pickle, or a column is missing or does not match the others.
    """
    parts = _parts(path, read_pickle(path))
    key = next((key for key in _VALUES if all(key in part for part in parts.values())), None)
    if key is None:
        raise _lacking(path, parts, " or ".join(_VALUES))
    columns = [_values(path, split, part[key]) for split, part in parts.items()]
    file = _File(path, parts, dict(zip(parts, map(len, columns), strict=True)))
    names = [parse_name(name) for name in file.rows("id")]
    samples = Utterances(
        names=[name for name, _ in names],
        videos=[video for _, video in names],
        values=np.concatenate(columns),
        splits=np.repeat(list(file.lengths), list(file.lengths.values())).astype(np.str_),
        inputs={"text": np.empty(0, np.float32)},  # reserves the first position
        facts={"file": path.name, "layout": _VALUES[key], "samples": file.lengths},
    )
    if text == "hashed":
        samples.transcripts = [as_text(words) for words in file.rows("raw_text")]
    elif text == "bert-tokens":
        samples.inputs["text"] = _tokens(path, file.take("text_bert"))
    found: dict[str, Counter[str]] = {}
    for name in ("text", "audio", "vision") if text == "features" else ("audio", "vision"):
        samples.inputs[name], found[name] = _features(file, name)
    report_nonfinite(found, nonfinite, samples)
    return samples


def _parts(path: Path, content: Any) -> Parts:
    if not isinstance(content, Mapping):
        raise DataError(
            f"{path} holds a {type(content).__name__}; expected a dictionary with train, valid and test."
        )
    parts = {}
    for split, spellings in _SPLITS.items():
        key = next((key for key in spellings if isinstance(content.get(key), MutableMapping)), None)
        if key is not None:
            parts[split] = content[key]
    if not {"train", "test"} <= set(parts):
        keys = listed([str(key) for key in content], 6)
        raise DataError(f"{path} has the entries {keys}; expected train, valid and test, each a dictionary.")
    return parts


def _lacking(path: Path, parts: Parts, key: str) -> DataError:
    keys = listed(sorted(str(key) for key in parts["train"]), 12)
    return DataError(f"{path} has no column {key} in every split; its train split has {keys}.")


def _values(path: Path, split: str, labels: Any) -> NDArray[np.float64]:
    try:
        values = np.asarray(labels, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: the labels of {split} are not numbers ({error}); get another copy."
        ) from error
    if values.ndim == 0 or values.size != len(values):
        raise DataError(
            f"{path}: the labels of {split} have the shape {list(values.shape)}; expected one sentiment "
            "per sample [n, 1, 1]: use the file of sentiments, not that of emotions."
        )
    return values.reshape(-1)


def _tokens(path: Path, column: dict[str, Any]) -> NDArray[np.int32]:
    """Return the first of the three rows (numbers, mask, segments) of a BERT tokenizer."""
    pieces = []
    for split, values in column.items():
        array = np.asarray(values)
        if array.ndim != 3 or array.shape[1] != 3 or array.dtype.kind not in "iuf":
            raise DataError(
                f"{path}: text_bert of {split} is {array.dtype} {list(array.shape)}; expected numbers "
                "[n, 3, T]: token numbers, mask and segments."
            )
        numbers = np.where(array[:, 1] > 0, array[:, 0], 0)
        if not np.array_equal(numbers, np.clip(np.rint(numbers), 0, np.iinfo(np.int32).max)):
            raise DataError(
                f"{path}: text_bert of {split} holds values that are not token numbers; get another copy."
            )
        pieces.append(numbers.astype(np.int32))
    return np.concatenate(pieces)


def _features(file: _File, name: str) -> tuple[NDArray[np.float32], Counter[str]]:
    column = file.take(name)
    arrays = {
        split: _array(file.path, split, name, values) for split, values in column.items() if len(values)
    }
    column.clear()
    shapes = {split: array.shape[1:] for split, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{file.path}: samples of {name} have different shapes in its splits: {shapes}.")
    joined = np.empty((sum(file.lengths.values()), *next(iter(shapes.values()))), dtype=np.float32)
    first = 0
    for split in list(arrays):
        array = arrays.pop(split)
        # Values too large for float32 become infinite, and are counted as such.
        with np.errstate(over="ignore"):
            joined[first : first + len(array)] = array
        first += len(array)
    counts = Counter[str]()
    replace_nonfinite(joined, counts)
    return joined, counts


def _array(path: Path, split: str, name: str, values: Any) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.asarray(values, dtype=object)
    if array.dtype.kind not in "fiu" or array.ndim not in (2, 3) or 0 in array.shape:
        raise DataError(
            f"{path}: {name} of {split} is {array.dtype} {list(array.shape)}; expected numbers [n, T, d] or "
            "[n, d], padded to one length."
        )
    return array
