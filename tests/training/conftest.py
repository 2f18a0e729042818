from __future__ import annotations

from pathlib import Path

import pytest

import synthetic


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a dataset of two vector modalities."""
    return str(synthetic.write(tmp_path_factory.mktemp("data") / "two").path)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"
