from __future__ import annotations

import pytest

import synthetic


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a dataset of two vector modalities."""
    return str(synthetic.write(tmp_path_factory.mktemp("data") / "two").path)
