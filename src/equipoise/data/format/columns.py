"""Checks of the columns of a dataset: labels, class names, splits, groups and ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from equipoise.data.format.folder import SPLIT_NAMES, TASKS, listed
from equipoise.tasks import refuse_ignored
from equipoise.types import DataError

_ENCODE = (
    "encode labels with classes, target = numpy.unique(labels, return_inverse=True) and pass classes=classes "
    "to keep their names"
)


@dataclass(frozen=True)
class Columns:
    """The columns of a dataset, after all checks; for the fields see `PreparedDataset`."""

    ids: NDArray[np.str_]
    target: NDArray[Any]
    split: NDArray[np.str_] | None
    group: NDArray[np.str_] | None
    classes: tuple[str, ...]
    task: str

    def indexed(self) -> dict[str, NDArray[Any] | None]:
        """Return the columns of the index, without the content hashes."""
        return {"id": self.ids, "target": self.target, "split": self.split, "group": self.group}


def check_columns(
    lengths: dict[str, int],
    target: Any,
    split: Any = None,
    group: Any = None,
    ids: Any = None,
    classes: Sequence[str] | None = None,
    task: str = "classification",
) -> Columns:
    """Check all columns of a dataset; for the arguments see `write_dataset`.

    `lengths` gives the name of each modality, for messages, and its number of samples.

    Raises:
        DataError: a column is invalid.
    """
    if task not in TASKS:
        raise DataError(f"task is {task!r}; expected {' or '.join(map(repr, TASKS))}.")
    binary = None if task == "regression" else binary_column(target)
    if binary is not None:
        target, task = binary, "classification"
    values: NDArray[Any]
    names: tuple[str, ...] = ()
    if task == "regression":
        if classes is not None:
            raise DataError("classes were given with task='regression', which has none; omit them.")
        values = numeric_target(target)
    elif task == "multilabel":
        values, names = label_table(target, classes)
    else:
        values = class_labels(target)
    count = check_lengths({**lengths, "the target": len(values)})
    if task == "classification":
        values, names = encode_labels(values, classes)
    return Columns(
        ids=check_ids(ids, count),
        target=values,
        split=None if split is None else check_splits(split, count),
        group=None if group is None else text_column("group", group, count),
        classes=names,
        task=task,
    )


def numeric_target(target: Any) -> NDArray[np.float64]:
    """Return the values `[N]` of a regression target, or raise DataError if one is no finite number."""
    expected = "one number for each sample [N]"
    values = _array(target, expected, np.float64)
    if values.ndim != 1:
        raise DataError(f"target has the shape {list(values.shape)}; expected {expected}.")
    if bad := np.flatnonzero(~np.isfinite(values)).tolist():
        raise DataError(
            f"target is not finite in {len(bad)} samples (first: row {bad[0]}); remove these samples."
        )
    return values


def binary_column(target: Any) -> NDArray[Any] | None:
    """Return one column of 0 and 1 `[N, 1]` of any type as two classes `[N]`; None for any other target."""
    try:
        column = _array(target, "one class for each sample")
    except DataError:  # reported with what the task expects
        return None
    if column.ndim != 2 or column.shape[1] != 1 or column.dtype.kind not in "biuf":
        return None
    if not np.isin(column, (0, 1)).all():
        return None
    flat = column[:, 0]
    return flat.astype(np.int64) if flat.dtype.kind == "f" else flat


def label_table(
    target: Any, classes: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return a label table `[N, C]` as 0 and 1 (int64), and the label names `[C]`.

    Raises:
        DataError: it is not a table of 0 and 1, a label has no positive sample, or the number of names
            differs.
    """
    table = _array(target, "one column for each label")
    if table.ndim != 2 or table.shape[1] == 0:
        raise DataError(
            f"target has the shape {list(table.shape)}; expected 0 or 1 for each sample and label [N, C]."
        )
    if table.dtype.kind not in "biuf" or not np.isin(table, (0, 1)).all():
        raise DataError(
            "target holds other values than 0 and 1; expected 1 if a sample has the label, else 0."
        )
    if classes is not None and (isinstance(classes, str) or len(classes) != table.shape[1]):
        raise DataError(f"classes names {len(classes)} labels; target has {table.shape[1]} columns.")
    names = tuple(map(str, classes if classes is not None else range(table.shape[1])))
    if len(set(names)) < len(names):
        raise DataError("classes names a label more than once; give each column a unique name.")
    if never := [
        name for name, column in zip(names, table.T, strict=True) if len(table) and not column.any()
    ]:
        raise DataError(f"no sample has the label {listed(never)}; remove labels that never occur.")
    return table.astype(np.int64), names


def check_lengths(lengths: dict[str, int]) -> int:
    """Return the common number of samples, or raise DataError if `lengths` differ or are 0."""
    found = ", ".join(f"{name} {length}" for name, length in lengths.items())
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"numbers of samples differ: {found}; give every modality and the target one row for each sample."
        )
    count = next(iter(lengths.values()))
    if count == 0:
        raise DataError(f"there are no samples: {found}; give at least one sample of each class.")
    return count


def class_labels(target: Any) -> NDArray[Any]:
    """Return labels `[N]` as an array of integers, bools or texts, or raise DataError for anything else."""
    labels = _array(target, "one class for each sample")
    if labels.ndim != 1:
        raise DataError(
            f"target has the shape {list(labels.shape)}; expected one class for each sample "
            "[N]: use target.argmax(axis=1) if it is one-hot, target.ravel() if it is one column, and "
            "task='multilabel' if a sample may have several labels."
        )
    if labels.dtype.kind in "UST" or (labels.dtype == object and any(isinstance(one, str) for one in labels)):
        texts = text_column("target", target, len(labels))  # a missing label in a list is a text in `labels`
        if others := [one for one in target if not isinstance(one, (str, bytes))]:
            raise DataError(
                f"target holds texts and {listed(others)}, no text; give texts only, or integers."
            )
        return texts
    if labels.dtype.kind not in "biu" and len(labels):
        raise DataError(
            f"target holds values of type {labels.dtype}; expected integers or texts as classes: {_ENCODE}."
        )
    return labels


def encode_labels(
    labels: NDArray[Any], classes: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number the classes of labels `[N]` from 0 in ascending order; return indices and class names `[C]`.

    `classes` names each distinct label in ascending order, or gives the order of labels that are texts; by
    default the labels are the names.

    Raises:
        DataError: there are fewer than 2 classes, fewer samples than classes, or `classes` has the wrong
            length, a duplicate, or other names than texts as labels.
    """
    refuse_ignored(labels)
    distinct, target = np.unique(labels, return_inverse=True)
    if classes is None:
        names = tuple(str(label) for label in distinct.tolist())
    elif isinstance(classes, str) or np.ndim(classes) != 1:
        raise DataError(f"classes is a {type(classes).__name__}; expected a list of class names.")
    else:
        names = tuple(str(name) for name in classes)
    if len(labels) < len(names):
        raise DataError(
            f"there are {len(labels)} samples for {len(names)} classes; give several samples of each class."
        )
    if len(names) != len(distinct):
        raise DataError(
            f"classes has {len(names)} names, target has {len(distinct)} distinct labels "
            f"({listed(distinct.tolist(), 10)}); name exactly the classes that occur, in ascending order of "
            "label."
        )
    if len(distinct) < 2:
        raise DataError(f"target holds only one class ({names[0]!r}); expected at least 2 classes.")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"classes names {listed(twice)} more than once; give each class a unique name.")
    if distinct.dtype.kind == "U" and names != tuple(distinct.tolist()):
        if others := sorted(set(distinct.tolist()) - set(names)):
            raise DataError(f"classes lacks the label {listed(others)} of target; name the labels, in order.")
        target = np.array([names.index(label) for label in distinct.tolist()])[target]
    return target.astype(np.int64), names


def check_ids(ids: Any, count: int) -> NDArray[np.str_]:
    """Return ids `[N]`, by default row numbers, or raise DataError if one is missing or not unique."""
    if ids is None:
        return np.arange(count).astype(np.str_)
    names = text_column("ids", ids, count)
    values, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
        twice = values[counts > 1].tolist()
        raise DataError(
            f"{len(twice)} ids occur more than once ({listed(twice)}); give each sample a unique id."
        )
    return names


def check_splits(split: Any, count: int) -> NDArray[np.str_]:
    """Return `"train"`, `"val"` or `"test"` for each sample `[N]`; `"valid"` and `"validation"` mean `"val"`.

    Raises:
        DataError: the length is wrong, or there is another value.
    """
    names = text_column("split", split, count)
    names = np.where(np.isin(names, ["valid", "validation"]), "val", names)
    unknown = sorted(set(names.tolist()) - set(SPLIT_NAMES))
    if unknown:
        raise DataError(
            f"split holds {listed(unknown)}; expected {', '.join(map(repr, SPLIT_NAMES))} for each sample."
        )
    return names


def text_column(what: str, values: Any, count: int) -> NDArray[np.str_]:
    """Return a column as texts `[N]`; a missing value is a DataError, in which `what` names the column."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise DataError(f"{what} is {values!r}; expected one value for each of the {count} samples.")
    values = values.tolist() if isinstance(values, torch.Tensor) else list(values)
    if len(values) != count:
        raise DataError(
            f"{what} has {len(values)} values for {count} samples; give one value per sample, in order."
        )
    return np.array([_text(what, row, value) for row, value in enumerate(values)], dtype=np.str_)


def _array(target: Any, expected: str, dtype: type[np.float64] | None = None) -> NDArray[Any]:
    """Return a target as an array, or raise DataError."""
    if isinstance(target, torch.Tensor):
        target = target.tolist()
    try:
        return np.asarray(target, dtype=dtype)
    except (TypeError, ValueError) as error:
        found = "is ragged" if dtype is None else "holds no numbers"
        raise DataError(f"target {found} ({error}); expected {expected}.") from error


def _text(what: str, row: int, value: Any) -> str:
    nested = isinstance(value, (Sequence, Mapping, np.ndarray, torch.Tensor))
    if nested and not isinstance(value, (str, bytes)):
        raise DataError(
            f"{what} of sample {row} is a {type(value).__name__}; expected a text or number per sample."
        )
    try:
        text = value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise DataError(
            f"{what} of sample {row} is {value!r}, which is not UTF-8; decode it first."
        ) from None
    if not text or pd.isna(value):
        raise DataError(f"{what} of sample {row} is missing ({value!r}); give every sample a value.")
    if "\0" in text:
        raise DataError(f"{what} of sample {row} holds a NUL character ({text!r}); remove it.")
    return text
