"""Small datasets with known answers, for tests that train."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from equipoise.data import PreparedDataset, write_dataset

CLASSES = 3
VECTORS: dict[str, tuple[int, ...]] = {"audio": (8,), "video": (5,)}


def samples(
    shapes: Mapping[str, tuple[int, ...]], count: int, seed: int = 0
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
    """Draw `count` samples of `CLASSES` Gaussian classes, one cluster a class in every modality."""
    rng = np.random.default_rng(seed)
    target = np.arange(count) % CLASSES
    inputs = {}
    for name, shape in shapes.items():
        means = np.random.default_rng([7, *name.encode()]).normal(size=(CLASSES, *shape))
        inputs[name] = (means[target] + rng.normal(size=(count, *shape))).astype(np.float32)
    return inputs, target


def write(
    folder: Path, shapes: Mapping[str, tuple[int, ...]] = VECTORS, count: int = 150, seed: int = 0
) -> PreparedDataset:
    """Write a small dataset into `folder`."""
    return write_dataset(folder, *samples(shapes, count, seed))
