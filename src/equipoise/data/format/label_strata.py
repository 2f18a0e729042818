"""What splits are stratified by where a sample carries several labels, or a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.prepared import PreparedDataset

LEAST_STRATUM: Final = 10
"""Samples or groups below which a label has no stratum of its own."""


def missing_label(dataset: PreparedDataset, parts: Mapping[str, NDArray[np.int64]]) -> str:
    """Say which label no sample of a split carries; empty where there is none such."""
    if dataset.task != "multilabel":
        return ""
    for name, rows in parts.items():
        for label, carried in zip(dataset.classes, dataset.target[rows].T, strict=True):
            if not carried.any():
                return f"no sample carries the label {label!r} in split {name!r}"
    return ""


def strata_of(target: NDArray[Any], unit: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what splits of other targets than classes are stratified by `[N]`.

    Numbers have no strata. A sample with labels belongs to its rarest one, so that rare labels come into all
    splits as far as that goes; labels that are the rarest of too few units (samples or groups) share a
    stratum with those of samples without any, or, where these are too few as well, with the largest.
    """
    if target.ndim == 1:
        return np.zeros(len(target), dtype=np.int64)
    frequency = target.sum(axis=0)
    rarest = np.where(target > 0, frequency, target.shape[0] + 1).argmin(axis=1) + 1
    rarest[~target.any(axis=1)] = 0
    sizes = _stratum_sizes(rarest, unit)
    strata = np.where(sizes[rarest] >= LEAST_STRATUM, rarest, 0)
    sizes = _stratum_sizes(strata, unit)
    return strata if sizes[0] >= LEAST_STRATUM else np.where(strata == 0, sizes.argmax(), strata)


def _stratum_sizes(stratum: NDArray[np.int64], unit: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the units of each stratum."""
    return np.bincount(np.unique(np.stack([stratum, unit]), axis=1)[0])
