"""Scaling of features before a measure of separability."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def scale_features(train: Array, val: Array, scaler: str, pca: int | None = None) -> tuple[Array, Array]:
    """Scale training and validation features `[N, d]`, optionally reduced to `pca` components.

    `minmax-per-split` is the paper's: each feature of each split to [-1, 1] by that split's own range.
    """
    train, val = _scaled(train, val, scaler)
    if pca is not None and pca < train.shape[1]:
        from sklearn.decomposition import PCA

        components = min(pca, len(train))
        reduction = PCA(components, svd_solver="full").fit(train)
        train, val = reduction.transform(train), reduction.transform(val)
    return train, val


def minmax(features: Array) -> Array:
    """Scale each feature of `features [N, d]` to [-1, 1]; a constant feature becomes -1."""
    from sklearn.preprocessing import MinMaxScaler

    scaled: Array = MinMaxScaler((-1, 1)).fit_transform(features)
    return scaled


def _scaled(train: Array, val: Array, scaler: str) -> tuple[Array, Array]:
    if scaler == "none":
        return train, val
    if scaler == "minmax-per-split":
        return minmax(train), minmax(val)
    if scaler == "l2":
        from sklearn.preprocessing import normalize

        return normalize(train), normalize(val)
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    fitted = (MinMaxScaler((-1, 1)) if scaler == "minmax-train" else StandardScaler()).fit(train)
    return fitted.transform(train), fitted.transform(val)
