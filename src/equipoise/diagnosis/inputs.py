"""Check features and labels, and bring them into one form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equipoise.diagnosis.measures.clustering import Array
from equipoise.diagnosis.measures.scores import Values
from equipoise.diagnosis.options import CONTINUOUS, LABELS, DiagnosisOptions
from equipoise.types import DataError, UsageError


def split_targets(train_labels: ArrayLike, val_labels: ArrayLike, options: DiagnosisOptions) -> list[Values]:
    """Return the targets of both splits: class indices, numbers of a continuous target, or labels."""
    if options.metric in LABELS:
        return [label_table(train_labels, "train labels"), label_table(val_labels, "val labels")]
    y_train, y_val = label_vector(train_labels, "train labels"), label_vector(val_labels, "val labels")
    if options.metric in CONTINUOUS:
        if not all(np.issubdtype(y.dtype, np.number) and np.isfinite(y).all() for y in (y_train, y_val)):
            raise DataError(f"the metric {options.metric!r} expects finite numbers as target.")
        return [y_train, y_val]
    y, classes = class_indices(np.concatenate([y_train, y_val]), "labels")
    for split, part in (("training", y[: len(y_train)]), ("validation", y[len(y_train) :])):
        missing = np.setdiff1d(np.arange(len(classes)), part)
        if len(missing) and (split == "training" or options.missing_classes == "error"):
            names = ", ".join(str(classes[index]) for index in missing[:5])
            raise DataError(
                f"{len(missing)} of {len(classes)} classes have no sample in the {split} split: {names}; "
                "expected each class in both splits: split by class, or leave the class out"
                + (' (or allow it: missing_classes="allow").' if split == "validation" else ".")
            )
    return [y[: len(y_train)], y[len(y_train) :]]


def has_labels(*labels: ArrayLike) -> bool:
    """Return whether a target is a table of labels `[N, C]`, and no column of classes or numbers."""
    return all(_as_numpy(part).ndim == 2 for part in labels)


def label_table(labels: ArrayLike, what: str) -> Values:
    """Return labels as 0 and 1 `[N, C]`; `what` names them in errors."""
    y = _as_numpy(labels)
    if y.ndim != 2 or not len(y) or not np.isin(y, (0, 1)).all():
        raise DataError(
            f"{what} have the shape {list(y.shape)}; expected 0 or 1 for each sample and label, "
            "[samples, labels]."
        )
    return y.astype(np.int64)


def is_continuous(*labels: ArrayLike) -> bool:
    """Return whether a target is continuous: floating numbers, not all of them whole.

    Whole floats are rather classes of a wrong type, of which `class_indices` tells.
    """
    targets = [_as_numpy(part) for part in labels]
    return all(y.dtype.kind == "f" for y in targets) and any(bool((y != np.round(y)).any()) for y in targets)


def feature_matrix(features: ArrayLike, what: str) -> Array:
    """Return features as a finite array `[N, d]` of floats; `what` names them in errors."""
    x = _as_numpy(features)
    if not np.issubdtype(x.dtype, np.number) or np.issubdtype(x.dtype, np.complexfloating):
        raise DataError(f"{what} has the type {x.dtype}; expected numbers.")
    if x.ndim != 2 or x.shape[1] == 0:
        raise DataError(f"{what} has the shape {list(x.shape)}; expected [samples, features].")
    if len(x) == 0:
        raise DataError(f"{what} is empty; expected at least one sample.")
    if x.dtype not in (np.float32, np.float64):
        x = x.astype(np.float32)
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise DataError(
            f"{what} holds NaN or infinite values in {int(bad.sum())} of {len(x)} rows, first in row "
            f"{int(bad.argmax())}; expected finite numbers: repair or drop these samples."
        )
    return x


def label_vector(labels: ArrayLike, what: str, length: int | None = None) -> Values:
    """Return labels as an array `[N]`; `what` names them in errors."""
    y = _as_numpy(labels)
    if y.ndim != 1:
        raise DataError(f"{what} have the shape {list(y.shape)}; expected one label per sample, [samples].")
    if len(y) == 0:
        raise DataError(f"{what} are empty; expected at least one sample.")
    if length is not None and len(y) != length:
        raise DataError(f"there are {length} rows of features and {len(y)} {what}; expected equal numbers.")
    return y


def class_indices(labels: Values, what: str) -> tuple[NDArray[np.int64], Values]:
    """Return labels as indices `[N]` into their sorted classes, and the classes `[C]`."""
    if labels.dtype == object and all(isinstance(label, str) for label in labels):  # a pandas column, say
        labels = labels.astype(np.str_)
    if not (np.issubdtype(labels.dtype, np.integer) or labels.dtype.kind in "bUS"):
        raise DataError(
            f"{what} have the type {labels.dtype}; expected integers or strings. For classes stored as "
            "whole floats use .astype(int); for a continuous target choose metric='ridge-r2', "
            "'knn-r2' or 'binned-purity'."
        )
    classes, indices = np.unique(labels, return_inverse=True)
    return indices.astype(np.int64), classes


def _as_numpy(values: ArrayLike) -> NDArray[Any]:
    if hasattr(values, "detach"):  # a tensor, perhaps on a device or in a precision NumPy lacks
        tensor = values.detach().cpu()
        return np.asarray(tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor)
    try:
        return np.asarray(values)
    except ValueError as error:
        raise UsageError(f"expected an array of one shape, found {type(values).__name__}: {error}") from None
