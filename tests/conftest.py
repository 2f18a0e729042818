"""What holds for every test: one thread, so that results and running times do not depend on the machine, and
temporary folders that go when the tests end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give whoever asks for a temporary folder one below that of pytest, in processes that tests start too.

    Runs and comparisons without an output folder are kept in new temporary folders, which nobody removes.
    """
    with pytest.MonkeyPatch.context() as patch:
        # The sockets of Ray lie deep below its folder, and the path of a socket must be short.
        patch.setenv("RAY_TMPDIR", os.environ.get("RAY_TMPDIR", tempfile.gettempdir()))
        folder = tmp_path_factory.mktemp("tmp")
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
    shutil.rmtree(folder, ignore_errors=True)  # a process that is just ending may still write there
