"""Small datasets with several labels a sample, or with numbers, with known answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data import PreparedDataset, write_dataset

SHAPES: dict[str, tuple[int, ...]] = {"audio": (8,), "video": (5,)}
LABELS = ("loud", "fast", "near")
MEAN, DEVIATION = 250.0, 40.0


def samples(
    task: str, shapes: Mapping[str, tuple[int, ...]] = SHAPES, count: int = 150, seed: int = 0
) -> tuple[dict[str, NDArray[np.float32]], NDArray[Any]]:
    """Draw `count` samples; every modality contains three hidden numbers with noise.

    The target is the first of them, far from mean 0 and deviation 1, or which of them are above 0.3.
    """
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, len(LABELS)))
    inputs = {}
    for name, shape in shapes.items():
        shown = np.random.default_rng([7, *name.encode()]).normal(size=(len(LABELS), *shape))
        noise = rng.normal(size=(count, *shape))
        inputs[name] = (np.tensordot(hidden, shown, 1) + noise).astype(np.float32)
    if task == "regression":
        return inputs, MEAN + DEVIATION * hidden[:, 0]
    return inputs, (hidden > 0.3).astype(np.int64)


def write(
    folder: Path,
    task: str,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    count: int = 150,
    seed: int = 0,
) -> PreparedDataset:
    """Write such a dataset into `folder`."""
    names = LABELS if task == "multilabel" else None
    return write_dataset(folder, *samples(task, shapes, count, seed), task=task, classes=names)
