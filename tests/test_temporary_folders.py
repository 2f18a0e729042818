"""Runs without a folder use one below pytest's temporary folder, also in other processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import equipoise as eq
import synthetic


def test_a_run_without_a_folder_uses_the_temporary_folder_of_the_tests(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    synthetic.write(tmp_path / "data", count=60)
    result = eq.fit(tmp_path / "data", "joint", epochs=1, diagnose_every=0)
    assert result.run_dir.is_relative_to(tmp_path_factory.getbasetemp())


def test_another_process_uses_it_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    code = "import tempfile; print(tempfile.gettempdir())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(tmp_path_factory.getbasetemp())
    assert found.stdout.strip() == tempfile.gettempdir()
