"""Strata for splits of multi-label and numeric targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.prepared import PreparedDataset

LEAST_STRATUM: Final = 10
"""Labels with fewer samples (or groups) share a stratum."""


def missing_label(dataset: PreparedDataset, parts: Mapping[str, NDArray[np.int64]]) -> str:
    """Return a message about the first label without a sample in a split; empty if there is none."""
    if dataset.task != "multilabel":
        return ""
    for name, rows in parts.items():
        for label, carried in zip(dataset.classes, dataset.target[rows].T, strict=True):
            if not carried.any():
                return f"no sample has the label {label!r} in split {name!r}"
    return ""


def strata_of(target: NDArray[Any], unit: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the stratum `[N]` of each sample of a target that is not a class.

    Numeric targets have one stratum. A sample with labels belongs to the stratum of its rarest label, so that
    rare labels reach all splits if possible. Strata of too few units (samples or groups) are joined with that
    of the samples without a label, or, if the result is still too small, with the largest stratum.
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
