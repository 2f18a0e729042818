"""One vector per sample, against sums computed separately."""

from __future__ import annotations

import pytest
import torch

from equipoise.pooling import pool_features
from equipoise.types import ModelError


def test_vectors_are_returned_unchanged():
    z = torch.randn(3, 4)
    assert pool_features(z) is z
    assert pool_features(z, 3) is z


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 3, 4, 6), (2, 3, 2, 4, 6)])
def test_means_over_space_and_time(shape):
    x = torch.randn(shape, dtype=torch.float64)
    pooled = pool_features(x, 2)
    assert pooled.shape == (2, 3)
    for i in range(2):
        for c in range(3):
            values = x[i, :, c] if len(shape) == 3 else x[i, c]
            assert pooled[i, c].item() == pytest.approx(sum(values.flatten().tolist()) / values.numel())


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 2, 2)])
def test_frames_of_one_sample_are_averaged_together(shape):
    x = torch.randn(shape)
    frames = x if x.ndim == 2 else x.mean((2, 3))
    expected = torch.stack([frames[:3].mean(0), frames[3:].mean(0)])
    assert torch.allclose(pool_features(x, 2), expected)
    assert len(pool_features(x)) == 6


def test_precision_is_kept():
    assert pool_features(torch.ones(2, 3, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("features", "batch_size", "message"),
    [
        (torch.zeros(4), None, r"shape \[4\]"),
        (torch.zeros(()), None, r"shape \[\]"),
        (torch.zeros(5, 3), 2, "5 rows for a batch of 2"),
        (torch.zeros(2, 3), 4, "2 rows for a batch of 4"),
        (torch.zeros(2, 3), 0, "2 rows for a batch of 0"),
        ([1.0], 1, "found list"),
    ],
)
def test_unsupported_shapes_are_refused(features, batch_size, message):
    with pytest.raises(ModelError, match=message):
        pool_features(features, batch_size)
