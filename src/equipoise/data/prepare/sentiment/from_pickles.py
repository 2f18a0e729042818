"""Read the published pickles of CMU-MOSI and CMU-MOSEI: of MulT, MultiBench and MMSA."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.folder import listed
from equipoise.data.prepare.sentiment.pickles import read_pickle
from equipoise.data.prepare.sentiment.utterances import (
    NonFinite,
    Text,
    Utterances,
    parse_name,
    report_nonfinite,
)
from equipoise.types import DataError

_SPLITS = {"train": ("train",), "val": ("valid", "val", "dev"), "test": ("test",)}
_VALUES = {"regression_labels": "MMSA", "labels": "MultiBench"}
_PIECE = 1 << 22
Parts = dict[str, MutableMapping[str, Any]]


def read_utterances(path: Path, text: Text, nonfinite: str) -> Utterances:
    """Read a pickle with the splits train, valid and test, each a dictionary of columns.

    Args:
        path: the file.
        text: `"features"` reads the column `text`, `"bert-tokens"` the token numbers in `text_bert`,
            `"hashed"` only `raw_text`.
        nonfinite: `"zero"` or `"fail"`.

    Returns:
        The concatenated splits, padded as in the file.

    Raises:
        DataError: the file is not such a pickle, or a column is missing or does not match the others.
    """
    parts = _parts(path, read_pickle(path))
    key = next((key for key in _VALUES if all(key in part for part in parts.values())), None)
    if key is None:
        raise _lacking(path, parts, " or ".join(_VALUES))
    columns = [_values(path, split, part[key]) for split, part in parts.items()]
    lengths = dict(zip(parts, map(len, columns), strict=True))
    names, videos = _names(path, parts, lengths)
    samples = Utterances(
        layout=_VALUES[key],
        names=names,
        videos=videos,
        values=np.concatenate(columns),
        splits=np.repeat(list(lengths), list(lengths.values())).astype(np.str_),
        inputs={},
    )
    _read_text(path, parts, lengths, text, samples)
    found: dict[str, NonFinite] = {}
    for name in ("text", "audio", "vision") if text == "features" else ("audio", "vision"):
        samples.inputs[name], found[name] = _features(path, parts, name, lengths)
    samples.facts |= {"file": path.name, "layout": samples.layout, "samples": lengths}
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


def _column(path: Path, parts: Parts, key: str, lengths: Mapping[str, int]) -> dict[str, Any]:
    """Remove a column from all splits and return it; the caller can then free its memory."""
    if any(key not in part for part in parts.values()):
        raise _lacking(path, parts, key)
    column = {split: part.pop(key) for split, part in parts.items()}
    for split, values in column.items():
        if not hasattr(values, "__len__") or len(values) != lengths[split]:
            found = len(values) if hasattr(values, "__len__") else repr(values)
            raise DataError(
                f"{path}: {key} of {split} has {found} entries, its labels {lengths[split]}; get "
                "another copy."
            )
    return column


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


def _names(path: Path, parts: Parts, lengths: Mapping[str, int]) -> tuple[list[str], list[str]]:
    column = _column(path, parts, "id", lengths)
    pairs = [parse_name(name) for names in column.values() for name in names]
    return [name for name, _ in pairs], [video for _, video in pairs]


def _read_text(path: Path, parts: Parts, lengths: Mapping[str, int], text: Text, samples: Utterances) -> None:
    samples.inputs["text"] = np.empty(0, np.float32)  # reserves the first position
    if text == "hashed":
        column = _column(path, parts, "raw_text", lengths)
        samples.transcripts = [
            item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
            for items in column.values()
            for item in items
        ]
    elif text == "bert-tokens":
        samples.inputs["text"] = _tokens(path, _column(path, parts, "text_bert", lengths))


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


def _features(
    path: Path, parts: Parts, name: str, lengths: Mapping[str, int]
) -> tuple[NDArray[np.float32], NonFinite]:
    column = _column(path, parts, name, lengths)
    arrays = {split: _array(path, split, name, values) for split, values in column.items() if len(values)}
    column.clear()
    shapes = {split: array.shape[1:] for split, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{path}: samples of {name} have different shapes in its splits: {shapes}.")
    joined = np.empty((sum(lengths.values()), *next(iter(shapes.values()))), dtype=np.float32)
    first = 0
    for split in list(arrays):
        array = arrays.pop(split)
        _copy(array, joined[first : first + len(array)])
        first += len(array)
    found = NonFinite()
    found.replace(joined)
    return joined, found


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


def _copy(array: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Copy in chunks; values too large for float32 become infinite and are counted as such."""
    step = max(1, _PIECE // max(1, array[0].size))
    with np.errstate(over="ignore"):
        for first in range(0, len(array), step):
            out[first : first + step] = array[first : first + step]
