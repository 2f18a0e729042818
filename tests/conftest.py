"""Fixtures of all tests: one thread, so that running times do not depend on the machine, and temporary
folders that are removed when the tests end. And float64 for tests that compare two computations."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)
gc.disable()  # otherwise each collection would scan the objects of imported modules, for seconds


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but do not scan the objects of modules."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put temporary folders below that of pytest, also in processes that tests start.

    Runs and comparisons without an output folder are kept in new temporary folders, which are never removed.
    """
    with pytest.MonkeyPatch.context() as patch:
        # Ray creates its sockets deep below its folder, and the path of a socket must be short.
        patch.setenv("RAY_TMPDIR", os.environ.get("RAY_TMPDIR", tempfile.gettempdir()))
        folder = tmp_path_factory.mktemp("tmp")
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
    shutil.rmtree(folder, ignore_errors=True)  # a process that is just ending may still write there


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks() -> Iterator[None]:
    """Do not wait until files are on the disk: each takes 10 ms, and no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def float64() -> Iterator[None]:
    """Make new tensors and modules float64.

    Processors sum float32 in different orders. After a few training steps the results differ by about 1e-6,
    and a decision that depends on them may differ. In float64 they differ by about 1e-15, so that a
    test can check for equality up to 1e-10.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
