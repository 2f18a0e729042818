"""Features with known separability."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Draw = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def blobs() -> Draw:
    """Draw `[n, d]` features of Gaussian classes, and labels; `means` fixes the classes, `seed` the draw."""

    def draw(
        n: int = 120, classes: int = 3, d: int = 8, separation: float = 0.7, seed: int = 0, means: int = 99
    ) -> tuple[np.ndarray, np.ndarray]:
        centres = np.random.default_rng(means).normal(size=(classes, d)) * separation
        rng = np.random.default_rng(seed)
        labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
        return rng.normal(size=(n, d)) + centres[labels], labels

    return draw
