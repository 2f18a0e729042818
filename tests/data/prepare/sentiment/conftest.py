"""Shared by the tests of pickles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def save(tmp_path: Path) -> Callable[[bytes], Path]:
    """Write the content of a pickle, and return its path."""

    def write(content: bytes) -> Path:
        path = tmp_path / "data.pkl"
        path.write_bytes(content)
        return path

    return write
