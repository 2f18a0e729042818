"""Scaling of features before a measure of separability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sklearn.preprocessing import StandardScaler

Array = NDArray[np.floating]
ROWS = 4096


def scale_features(
    train: Array, val: Array, scaler: str, pca: int | None = None, *, in_place: bool = False
) -> tuple[Array, Array]:
    """Scale training and validation features `[N, d]`, optionally reduced to `pca` components.

    `minmax-per-split` is the paper's: each feature of each split to [-1, 1] by that split's own range. With
    `in_place` the arrays given are used up, where the scaler allows it.
    """
    train, val = _scaled(train, val, scaler, copy=not in_place)
    if pca is not None and pca < train.shape[1]:
        from sklearn.decomposition import PCA

        components = min(pca, len(train))
        reduction = PCA(components, svd_solver="full").fit(train)
        train, val = reduction.transform(train), reduction.transform(val)
    return train, val


def minmax(features: Array, *, copy: bool = True) -> Array:
    """Scale each feature of `features [N, d]` to [-1, 1]; a constant feature becomes -1."""
    from sklearn.preprocessing import MinMaxScaler

    scaled: Array = MinMaxScaler((-1, 1), copy=copy).fit_transform(features)
    return scaled


def _scaled(train: Array, val: Array, scaler: str, *, copy: bool) -> tuple[Array, Array]:
    if scaler == "none":
        return train, val
    if scaler == "minmax-per-split":
        return minmax(train, copy=copy), minmax(val, copy=copy)
    if scaler == "l2":
        from sklearn.preprocessing import normalize

        return normalize(train, copy=copy), normalize(val, copy=copy)
    from sklearn.preprocessing import MinMaxScaler

    fitted = (
        MinMaxScaler((-1, 1), copy=copy).fit(train) if scaler == "minmax-train" else _standard(train, copy)
    )
    return fitted.transform(train), fitted.transform(val)


def _standard(train: Array, copy: bool) -> StandardScaler:
    """Fit by parts: the variance of all rows at once would take a copy of them in twice the precision."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(copy=copy)
    for start in range(0, len(train), ROWS):
        scaler.partial_fit(train[start : start + ROWS])
    return scaler
