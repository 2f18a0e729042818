"""Normalisation by statistics of the train split, or of each sample by its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from equipoise.data.format.content import chunks
from equipoise.data.format.modality import ModalitySpec
from equipoise.data.format.prepared import PreparedDataset
from equipoise.types import DataError

_STATISTIC_AXES = {"vector": (0,), "sequence": (0, 1), "image": (0, 2, 3), "video": (0, 1, 3, 4)}
"""Axes of `[N, ...]` over which a statistic is taken: per feature, or per channel of images and videos."""
_SAMPLE_AXES = {kind: tuple(axis - 1 for axis in axes[1:]) for kind, axes in _STATISTIC_AXES.items()}
"""The same of a single sample."""
_EXACT_IN_FLOAT32 = ("bool", "int8", "uint8", "int16", "uint16", "float16", "float32")
_CACHED_BYTES = 2**18
"""Fits into the processor's cache for several operations in a row."""


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Turns stored features into `(x * scale - mean) / std`.

    Attributes:
        mean: float64, of a shape that broadcasts to one sample: [d] for vectors and sequences, [C, 1, 1]
            otherwise.
        std: the same shape; 1 where a feature is constant.
        scale: 1/255 for uint8, otherwise 1; mean and std are those of the scaled values.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    scale: float = 1.0

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Normalise stored features `[B, ...]` into a copy; rows are independent of each other."""
        # Types that float32 represents exactly are computed in it: half the memory traffic, no loss.
        kind = "float32" if rows.dtype.name in _EXACT_IN_FLOAT32 else "float64"
        mean, std = torch.from_numpy(self.mean.astype(kind)), torch.from_numpy(self.std.astype(kind))
        stored, values = torch.from_numpy(np.require(rows, requirements="W")), np.empty(rows.shape, kind)
        result = torch.from_numpy(values)
        for part in chunks(len(rows), values[:1].nbytes, _CACHED_BYTES):
            piece = result[part].copy_(stored[part])
            if self.scale != 1.0:
                piece *= self.scale
            piece.sub_(mean).div_(std)
        return values.astype(np.float32, copy=False)

    def mirror(self, value: float) -> NDArray[np.float64]:
        """Return about which number a normalised sample is mirrored when the stored one is about `value`."""
        return (value * self.scale - self.mean) / self.std


@dataclass(frozen=True, eq=False)
class ClipNormalizer(Normalizer):
    """Turns each stored sample into `(x - mean) / std` by its own statistics, per feature or channel.

    Steps of a sequence whose features are all 0 are padding: they do not count, and stay 0. A feature or
    channel that is constant in a sample becomes 0.

    Attributes:
        kind: of the modality.
        mean, std, scale: 0 and 1; nothing is fitted.
    """

    kind: str = field(kw_only=True)

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Normalise stored features `[B, ...]` into a copy; rows are independent of each other."""
        values = np.empty(rows.shape, np.float32)
        for place, row in enumerate(rows):
            values[place] = self._normalized(row.astype(np.float64))
        return values

    def _normalized(self, sample: NDArray[np.float64]) -> NDArray[np.float64]:
        used: Any = sample.any(axis=1) if self.kind == "sequence" else slice(None)
        values, result = sample[used], np.zeros_like(sample)
        if values.size:
            axes = _SAMPLE_AXES[self.kind]
            low, high = values.min(axis=axes, keepdims=True), values.max(axis=axes, keepdims=True)
            std = values.std(axis=axes, keepdims=True)
            constant = (low == high) | (std < np.finfo(np.float32).tiny)
            mean = np.where(constant, low, values.mean(axis=axes, keepdims=True))
            result[used] = (values - mean) / np.where(constant, 1.0, std)
        return result

    def mirror(self, value: float) -> NDArray[np.float64]:
        """Return 0: the mean of a mirrored sample is mirrored, too."""
        return np.zeros(1)


def fit_normalizers(dataset: PreparedDataset, train: NDArray[np.int64]) -> dict[str, Normalizer]:
    """Fit the normaliser of each modality on the rows `train` only.

    Raises:
        DataError: `train` is empty.
    """
    if not len(train):
        raise DataError(
            f"the train split of {dataset.name!r} is empty; normalisation needs at least one sample."
        )
    return {
        name: fit_normalizer(dataset.array(name), spec, train) for name, spec in dataset.modalities.items()
    }


def fit_normalizer(array: NDArray[Any], spec: ModalitySpec, rows: NDArray[np.int64]) -> Normalizer:
    """Compute mean and standard deviation of the sorted `rows` of stored features `[N, ...]`, in float64.

    With `normalize="none"` the result only converts (and scales uint8); with `"clip"` nothing is computed.
    """
    if spec.normalize != "standard" or spec.kind == "tokens":
        return normalizer_of(spec, np.zeros(1), np.ones(1))
    axes = _STATISTIC_AXES[spec.kind]
    total: dict[str, Any] | None = None
    # The factor 8 counts the bytes of the float64 copy.
    for part in chunks(len(rows), 8 * int(np.prod(spec.shape, dtype=np.int64))):
        piece = _moments(array[rows[part]].astype(np.float64) * _scale(spec), axes)
        total = piece if total is None else _merge(total, piece)
    if total is None:
        raise DataError(f"modality {spec.name!r} has no rows; statistics need at least one.")
    std = np.sqrt(total["squares"] / total["count"])
    # Rounding gives a constant feature a tiny deviation; a division by it would blow up other samples.
    constant = (total["low"] == total["high"]) | (std < np.finfo(np.float32).tiny)
    mean = np.where(constant, total["low"], total["mean"])
    axis_shape = (-1,) if spec.kind in ("vector", "sequence") else (-1, 1, 1)
    return normalizer_of(spec, mean.reshape(axis_shape), np.where(constant, 1.0, std).reshape(axis_shape))


def normalizer_of(spec: ModalitySpec, mean: NDArray[np.float64], std: NDArray[np.float64]) -> Normalizer:
    """Return the normaliser of a modality whose statistics are known, see `Normalizer`."""
    if spec.normalize == "clip" and spec.kind != "tokens":
        return ClipNormalizer(mean, std, kind=spec.kind)
    return Normalizer(mean, std, _scale(spec))


def _scale(spec: ModalitySpec) -> float:
    return 1 / 255 if spec.dtype == "uint8" and spec.kind != "tokens" else 1.0


def _moments(values: NDArray[np.float64], axes: tuple[int, ...]) -> dict[str, Any]:
    mean = values.mean(axis=axes, keepdims=True)
    return {
        "count": values.size // mean.size,
        "low": values.min(axis=axes),
        "high": values.max(axis=axes),
        "squares": ((values - mean) ** 2).sum(axis=axes),
        "mean": mean.squeeze(axes),
    }


def _merge(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, Any]:
    """Combine the moments of two sets (Chan, Golub and LeVeque, 1979); stable for large means, too."""
    count, shift = one["count"] + two["count"], two["mean"] - one["mean"]
    return {
        "count": count,
        "low": np.minimum(one["low"], two["low"]),
        "high": np.maximum(one["high"], two["high"]),
        "squares": one["squares"] + two["squares"] + shift**2 * (one["count"] * two["count"] / count),
        "mean": one["mean"] + shift * (two["count"] / count),
    }
