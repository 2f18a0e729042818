"""Scale features as measures expect them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from equipoise.diagnosis.measures.scores import Array
from equipoise.sharing import Blocks

if TYPE_CHECKING:
    from sklearn.preprocessing import StandardScaler

ROWS: Final = 4096
"""Rows per step in which a standard scaler is fitted."""


def scale_features(
    train: Array, val: Array, scaler: str, pca: int | None = None, *, in_place: bool = False
) -> tuple[Array, Array]:
    """Scale training and validation features `[N, d]`, optionally reduced to `pca` components.

    `minmax-per-split` is the paper's: each feature of each split to [-1, 1] by that split's own range. With
    `in_place` the given arrays are overwritten, if the scaler allows it.
    """
    from sklearn.preprocessing import MinMaxScaler, normalize

    copy = not in_place
    if scaler == "minmax-per-split":
        train, val = minmax(train, copy=copy), minmax(val, copy=copy)
    elif scaler == "l2":
        train, val = normalize(train, copy=copy), normalize(val, copy=copy)
    elif scaler != "none":
        by_range = MinMaxScaler((-1, 1), copy=copy)
        fitted = by_range.fit(train) if scaler == "minmax-train" else _standard(train, copy)
        train, val = fitted.transform(train), fitted.transform(val)
    if pca is not None and pca < train.shape[1]:
        from sklearn.decomposition import PCA

        with np.errstate(divide="ignore", invalid="ignore"):  # shares of the variance of constant features
            reduction = PCA(min(pca, len(train)), svd_solver="full").fit(train)
        train, val = reduction.transform(train), reduction.transform(val)
    return train, val


def minmax(features: Array, *, copy: bool = True, blocks: Blocks | None = None) -> Array:
    """Scale each feature of `features [N, d]` to [-1, 1]; a constant feature becomes -1.

    With `blocks` the range is that of the features of all processes.
    """
    from sklearn.preprocessing import MinMaxScaler

    blocks = blocks or Blocks.alone(len(features))
    ends = blocks.lowest(features.min(axis=0)), blocks.highest(features.max(axis=0))
    scaled: Array = MinMaxScaler((-1, 1), copy=copy).fit(np.stack(ends)).transform(features)
    return scaled


def _standard(train: Array, copy: bool) -> StandardScaler:
    """Fit in steps: the variance of all rows at once would need a copy of them in double precision."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(copy=copy)
    for start in range(0, len(train), ROWS):
        scaler.partial_fit(train[start : start + ROWS])
    return scaler
