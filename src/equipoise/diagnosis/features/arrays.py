"""Check features and labels that are given as arrays or tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equipoise.diagnosis.measures.scores import Array, Labels, Splits, Values
from equipoise.diagnosis.options import CONTINUOUS, LABELS, DiagnosisOptions
from equipoise.sharing import Blocks
from equipoise.tasks import refuse_ignored
from equipoise.types import DataError, UsageError

ROWS: Final = 4096
"""Rows per step of a check."""
SAFE_EXPONENT: Final = 50
"""Features of up to two to this power, and their squares, are represented well in float32 too."""


def check_modalities(train: Mapping[str, ArrayLike], val: Mapping[str, ArrayLike]) -> None:
    """Check that both splits have the same modalities, and at least one."""
    for features in (train, val):
        if not hasattr(features, "keys"):
            raise DataError(
                f"features are a {type(features).__name__}; expected a mapping from modality name to array, "
                "such as {'audio': array}."
            )
    if not train:
        raise DataError("no modality was given; expected at least one entry of name and features.")
    if set(train) != set(val):
        raise DataError(
            f"train has the modalities {sorted(train)}, val has {sorted(val)}; expected the same names."
        )


def splits_of(
    modality: str,
    train: ArrayLike,
    val: ArrayLike,
    targets: tuple[Values, Values],
    blocks: tuple[Blocks, Blocks] | None = None,
) -> Splits:
    """Check the features of one modality against the targets, and return both splits in one precision.

    `blocks` are those of processes that share the samples.
    """
    own = blocks and (targets[0][blocks[0].own], targets[1][blocks[1].own])
    x, x_val = feature_pair(modality, train, val, *(own or targets))
    # A model fitted in one precision does not accept the other.
    precision = np.promote_types(x.dtype, x_val.dtype)
    x, x_val = x.astype(precision, copy=False), x_val.astype(precision, copy=False)
    return Splits(x, targets[0], x_val, targets[1], blocks=blocks)


def split_targets(
    train_labels: ArrayLike, val_labels: ArrayLike, options: DiagnosisOptions
) -> tuple[Values, Values]:
    """Return the targets of both splits: class indices, numbers, or tables of labels, as the metric needs."""
    if options.metric in LABELS:
        return label_table(train_labels, "train labels"), label_table(val_labels, "val labels")
    y, y_val = label_vector(train_labels, "train labels"), label_vector(val_labels, "val labels")
    if options.metric in CONTINUOUS:
        if not all(np.issubdtype(part.dtype, np.number) and np.isfinite(part).all() for part in (y, y_val)):
            raise DataError(f"the metric {options.metric!r} expects finite numbers as target.")
        return y, y_val
    return class_indices_of_splits(y, y_val, allow_missing=options.missing_classes == "allow")[:2]


def feature_pair(
    modality: str, train: ArrayLike, val: ArrayLike, train_target: Values, val_target: Values
) -> tuple[Array, Array]:
    """Return the features of both splits as matrices of one width, with a row for each target."""
    x, x_val = feature_matrix(train, f"train[{modality!r}]"), feature_matrix(val, f"val[{modality!r}]")
    for split, features, target in (("train", x, train_target), ("val", x_val, val_target)):
        if len(features) != len(target):
            raise DataError(
                f"{split}[{modality!r}] has {len(features)} rows, but there are {len(target)} {split} "
                "labels; expected one row of features for each label."
            )
    if x.shape[1] != x_val.shape[1]:
        raise DataError(
            f"{modality!r} has {x.shape[1]} features in train and {x_val.shape[1]} in val; "
            "expected the same width."
        )
    return x, x_val


def in_range(
    train: Array, val: Array, *, by_feature: bool, blocks: tuple[Blocks, Blocks] | None = None
) -> tuple[Array, Array]:
    """Scale features that are too large or too small to be squared, by a power of two, which is exact.

    `by_feature` scales each feature by itself, as measures that standardise features allow; otherwise their
    proportions are kept. `blocks` are those of processes that share the samples.
    """
    shares = blocks or (Blocks.alone(len(train)), Blocks.alone(len(val)))
    peaks = [
        share.highest(np.maximum(x.max(axis=0), -x.min(axis=0)))
        for x, share in zip((train, val), shares, strict=True)
    ]
    largest = np.maximum(*peaks) if by_feature else np.max(peaks)
    exponents = np.frexp(largest)[1]
    shifts = np.where(np.abs(exponents) > SAFE_EXPONENT, -exponents, 0)
    return (np.ldexp(train, shifts), np.ldexp(val, shifts)) if shifts.any() else (train, val)


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
    bad = np.empty(len(x), bool)
    for start in range(0, len(x), ROWS):
        bad[start : start + ROWS] = ~np.isfinite(x[start : start + ROWS]).all(axis=1)
    if bad.any():
        raise DataError(
            f"{what} holds NaN or infinite values in {int(bad.sum())} of {len(x)} rows, first in row "
            f"{int(bad.argmax())}; expected finite numbers: repair or drop these samples."
        )
    return x


def kind_of(*labels: ArrayLike) -> str:
    """Return the kind of a target, as in `Measure.target`: `classes`, `continuous` or `labels`.

    Raises:
        DataError: each row of the tables has one label, as if classes were one-hot.
    """
    if has_labels(*labels):
        tables = [_target(part) for part in labels]
        if all(y.dtype.kind in "biuf" and len(y) and (np.sum(y != 0, axis=1) == 1).all() for y in tables):
            raise DataError(
                f"each row of the labels {list(tables[0].shape)} has exactly one label, as if one-hot; "
                "for classes give labels.argmax(axis=1) (in a training loop by target_of=), for several "
                "labels per sample metric='linear-map'."
            )
        return "labels"
    return "continuous" if is_continuous(*labels) else "classes"


def has_labels(*labels: ArrayLike) -> bool:
    """Return whether a target is a table of labels `[N, C]`, not a vector of classes or numbers."""
    return all(_target(part).ndim == 2 for part in labels)


def is_continuous(*labels: ArrayLike) -> bool:
    """Return whether a target is continuous: floating-point numbers, not all of them whole.

    Whole floats are probably classes of the wrong type, which `class_indices` refuses.
    """
    targets = [_target(part) for part in labels]
    return all(y.dtype.kind == "f" for y in targets) and any(bool((y != np.round(y)).any()) for y in targets)


def label_table(labels: ArrayLike, what: str) -> Values:
    """Return labels as 0 and 1 `[N, C]`; `what` names them in errors."""
    y = _as_numpy(labels)
    if y.ndim != 2 or not len(y) or not np.isin(y, (0, 1)).all():
        raise DataError(
            f"{what} have the shape {list(y.shape)}; expected 0 or 1 for each sample and label, "
            "[samples, labels]."
        )
    return y.astype(np.int64)


def label_vector(labels: ArrayLike, what: str, length: int | None = None) -> Values:
    """Return labels as an array `[N]`; `what` names them in errors."""
    y = _target(labels)
    if y.ndim != 1:
        raise DataError(f"{what} have the shape {list(y.shape)}; expected one label per sample, [samples].")
    if len(y) == 0:
        raise DataError(f"{what} are empty; expected at least one sample.")
    if length is not None and len(y) != length:
        raise DataError(f"there are {length} rows of features and {len(y)} {what}; expected equal numbers.")
    return y


def class_indices(labels: Values) -> tuple[Labels, Values]:
    """Return labels as indices `[N]` into their sorted classes, and the classes `[C]`; refuse -100."""
    if labels.dtype == object and all(isinstance(label, str) for label in labels):  # a pandas column, say
        labels = labels.astype(np.str_)
    if not (np.issubdtype(labels.dtype, np.integer) or labels.dtype.kind in "bUS"):
        raise DataError(
            f"labels have the type {labels.dtype}; expected integers or strings. For classes stored as whole "
            "floats use .astype(int); for a continuous target choose metric='ridge-r2', "
            "'knn-r2' or 'binned-purity'."
        )
    refuse_ignored(labels)
    classes, indices = np.unique(labels, return_inverse=True)
    return indices.astype(np.int64), classes


def class_indices_of_splits(
    train: Values, val: Values, *, allow_missing: bool
) -> tuple[Labels, Labels, Values]:
    """Return the class indices of both splits and the classes.

    Raises:
        DataError: a class has no training sample, or no validation sample without `allow_missing`.
    """
    indices, classes = class_indices(np.concatenate([train, val]))
    y, y_val = indices[: len(train)], indices[len(train) :]
    for split, part in (("training", y),) if allow_missing else (("training", y), ("validation", y_val)):
        missing = np.setdiff1d(np.arange(len(classes)), part)
        if len(missing):
            names = ", ".join(str(classes[index]) for index in missing[:5])
            raise DataError(
                f"{len(missing)} of {len(classes)} classes have no sample in the {split} split: {names}; "
                "expected samples of each class: split by class, or leave the class out"
                + (' (or allow it: missing_classes="allow").' if split == "validation" else ".")
            )
    return y, y_val, classes


def _target(labels: ArrayLike) -> NDArray[Any]:
    """Return a target as an array: one column `[N, 1]` of 0 and 1, or of numbers not all whole, as `[N]`."""
    y = _as_numpy(labels)
    if y.ndim != 2 or y.shape[1] != 1 or y.dtype.kind not in "biuf":
        return y
    if np.isin(y, (0, 1)).all():
        return y[:, 0].astype(np.int64)
    return y[:, 0] if (y != np.round(y)).any() else y


def _as_numpy(values: ArrayLike) -> NDArray[Any]:
    if hasattr(values, "detach"):  # a tensor, perhaps on a device or in a precision that NumPy lacks
        tensor = values.detach().cpu()
        return np.asarray(tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor)
    try:
        return np.asarray(values)
    except ValueError as error:
        raise UsageError(f"expected an array of one shape, found {type(values).__name__}: {error}") from None
