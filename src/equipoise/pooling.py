"""Pool feature maps, sequences and frames to one vector per sample."""

from __future__ import annotations

from torch import Tensor

from equipoise.types import ModelError


def pool_features(features: Tensor, batch_size: int | None = None) -> Tensor:
    """Average an encoder's output over space and time.

    Args:
        features: `[B, d]` (returned unchanged), `[B, T, d]` (sequence: mean over `T`), `[B, C, H, W]` or
            `[B, C, T, H, W]` (feature map: mean over all dimensions after the channels).
        batch_size: number of samples `B`, if known. An output of `k * B` rows, `k` frames of each sample in
            sequence, is averaged over the frames.

    Returns:
        `[B, d]`, on the same device and in the same precision.

    Raises:
        ModelError: the output has one dimension only, or its rows are not a multiple of `batch_size`.
    """
    if not isinstance(features, Tensor):
        raise ModelError(
            f"an encoder must return one tensor, found {type(features).__name__}; "
            "wrap the encoder in a module whose forward returns the feature tensor."
        )
    if features.ndim < 2:
        raise ModelError(
            f"an encoder returned features of shape {list(features.shape)}; expected [batch, features] "
            "or a map or sequence: give pool= to turn the encoder's output into one vector per sample."
        )
    pooled = features
    if features.ndim == 3:
        pooled = features.mean(dim=1)
    elif features.ndim > 3:
        pooled = features.flatten(2).mean(dim=2)
    rows = pooled.shape[0]
    if batch_size is None or rows == batch_size:
        return pooled
    if batch_size == 0 or rows % batch_size:
        raise ModelError(
            f"an encoder returned {rows} rows for a batch of {batch_size} samples; expected one row per "
            "sample, or the same number of frames for each: give pool= for another layout."
        )
    return pooled.reshape(batch_size, rows // batch_size, -1).mean(dim=1)
