from __future__ import annotations

import numpy as np
import pytest

import equipoise as eq
import synthetic


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a dataset whose classes overlap, so that settings matter."""
    inputs, target = synthetic.samples(synthetic.VECTORS, 150)
    rng = np.random.default_rng(5)
    noisy = {name: x + 2.5 * rng.normal(size=x.shape).astype(np.float32) for name, x in inputs.items()}
    folder = tmp_path_factory.mktemp("data") / "two"
    eq.write_dataset(folder, noisy, target)
    return str(folder)
