"""Check features and labels that a linear head is fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equipoise.diagnosis.diagnose import class_indices, feature_matrix, is_continuous, label_vector
from equipoise.types import DataError

Features = Mapping[str, NDArray[Any]]


def head_targets(train: ArrayLike, val: ArrayLike) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return class indices `[N]` of both splits and the classes, or numbers and no classes.

    Raises:
        DataError: labels are no classes and no finite numbers, a class is missing in the training split, or
            there is one class only.
    """
    y, y_val = label_vector(train, "train labels"), label_vector(val, "val labels")
    if any(part.dtype.kind == "f" and not np.isfinite(part).all() for part in (y, y_val)):
        raise DataError("the labels hold NaN or infinite values; expected finite numbers.")
    if is_continuous(y, y_val):
        return y.astype(np.float64), y_val.astype(np.float64), np.empty(0)
    both = np.concatenate([y, y_val])
    indices, classes = class_indices(both, "labels")
    unseen = np.setdiff1d(indices, indices[: len(y)])
    if len(unseen):
        names = ", ".join(str(classes[index]) for index in unseen[:5])
        raise DataError(
            f"{len(unseen)} of {len(classes)} classes have no sample in the training split: {names}; "
            "expected every class there: split by class, or leave the class out."
        )
    if len(classes) < 2:
        raise DataError("all samples are of one class; expected at least two to tell apart.")
    return indices[: len(y)], indices[len(y) :], classes


def matched_features(
    train: Mapping[str, ArrayLike], val: Mapping[str, ArrayLike], n_train: int, n_val: int
) -> tuple[Features, Features]:
    """Return features `{m: [N, d_m]}` of both splits as arrays, in the order of the training split's.

    Raises:
        DataError: modalities, lengths or widths do not fit, or features are not finite.
    """
    if not train or set(train) != set(val):
        raise DataError(
            f"train has the modalities {sorted(train)}, val has {sorted(val)}; expected the same names, one "
            "at least."
        )
    x = {m: feature_matrix(train[m], f"train[{m!r}]") for m in train}
    x_val = {m: feature_matrix(val[m], f"val[{m!r}]") for m in train}
    for split, features, count in (("train", x, n_train), ("val", x_val, n_val)):
        for m, values in features.items():
            if len(values) != count:
                raise DataError(
                    f"{split}[{m!r}] has {len(values)} rows, but there are {count} {split} labels; expected "
                    "one row of features for each label."
                )
    if wrong := [m for m in x if x[m].shape[1] != x_val[m].shape[1]]:
        m = wrong[0]
        raise DataError(
            f"{m!r} has {x[m].shape[1]} features in train and {x_val[m].shape[1]} in val; expected the same "
            "width."
        )
    return x, x_val
