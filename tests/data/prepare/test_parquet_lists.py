"""Lists in Parquet may not grow beyond the size of their file, and are decoded first in another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from equipoise.data.prepare.readers.table_file import read_table
from equipoise.files import parquet_trial
from equipoise.types import DataError
from limits import limited

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def written(path: Path, **columns: object) -> Path:
    parquet.write_table(pa.table(columns), path, compression="zstd")
    return path


def test_lists_of_real_numbers_are_read_as_they_were_written(tmp_path: Path) -> None:
    vectors = list(np.random.default_rng(0).normal(size=(200, 50)))
    nested = [[[1.0, 2.0], [3.0, 4.0]]] * 200
    path = written(tmp_path / "a.parquet", id=[str(n) for n in range(200)], x=vectors, y=nested)
    table = read_table(path)
    assert np.array_equal(np.stack(table["x"].to_list()), np.stack(vectors))
    assert [[list(one) for one in cell] for cell in table["y"]] == nested


def test_sparse_lists_of_a_thousand_numbers_are_read(tmp_path: Path) -> None:
    """One-hot vectors take a hundred times less in the file; as many as fit are no reason to refuse it."""
    vectors = np.eye(1000)[np.random.default_rng(0).integers(1000, size=1000)]
    path = written(tmp_path / "a.parquet", x=list(vectors))
    assert vectors.nbytes > 100 * path.stat().st_size
    assert np.array_equal(np.stack(read_table(path)["x"].to_list()), vectors)


def test_entries_of_a_list_that_grow_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", x=[np.zeros(2 * 10**7)])
    assert path.stat().st_size < 2000
    read_table(written(tmp_path / "good.parquet", x=[[1.0]]))
    with limited("a table") as taken, pytest.raises(DataError, match="its lists grow to more than 16777216"):
        read_table(path)
    assert taken.bytes < 2**24


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory can only be limited on Linux")
def test_a_single_list_cannot_take_more_memory_than_is_allowed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", x=pa.array([np.zeros(6 * 10**7, np.int8)]))
    program = (
        "import sys; from pathlib import Path; from equipoise.files.parquet_trial import main;"
        "print(main(sys.argv[1], 2**20, 30, ['x'])); print(Path('/proc/self/status').read_text())"
    )
    command = [sys.executable, "-c", program, str(path)]
    said, _, status = subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition(
        "\n"
    )
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert said.startswith("its lists grow to more than 1048576 bytes")
    assert 1024 * peak < 2**20 + parquet_trial.ROOM + 2**27


def test_a_file_that_ends_the_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"x": [[1.0]]}).to_parquet(path)
    deadly = tmp_path / "deadly.py"
    deadly.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(parquet_trial, "__file__", str(deadly))
    with pytest.raises(DataError, match=r"it ends the process that decodes it \(SIGSEGV\)"):
        read_table(path)
