"""Small datasets for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.data import PreparedDataset, write_dataset


@pytest.fixture
def inputs() -> dict[str, Any]:
    """Features of 60 samples: a vector, a sequence, an image and a video."""
    rng, count = np.random.default_rng(0), 60
    return {
        "vector": rng.normal(5, 3, (count, 4)).astype(np.float32),
        "sequence": rng.normal(-1, 2, (count, 5, 3)),
        "image": rng.integers(0, 256, (count, 3, 4, 5), dtype=np.uint8),
        "video": rng.normal(0, 1, (count, 2, 3, 4, 4)).astype(np.float16),
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., PreparedDataset]:
    """Write a dataset of two modalities; keywords replace arguments of `write_dataset`."""

    def make(count: int = 60, **changes: Any) -> PreparedDataset:
        rng = np.random.default_rng(0)
        arguments: dict[str, Any] = {
            "folder": tmp_path / "set",
            "inputs": {"a": rng.normal(size=(count, 3)), "b": rng.normal(size=(count, 2, 4))},
            "target": np.arange(count) % 3,
        }
        return write_dataset(**{**arguments, **changes})

    return make


@pytest.fixture
def dataset(tmp_path: Path, inputs: dict[str, Any]) -> PreparedDataset:
    """60 samples, 3 classes, one modality of each kind."""
    return write_dataset(tmp_path / "kinds", inputs, np.arange(60) % 3)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read arrays in pieces of a few rows, like large arrays."""
    monkeypatch.setattr("equipoise.data.format.content.CHUNK_BYTES", 200)
