"""Where a command writes by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.cli.arguments import free_folder
from equipoise.types import UsageError


def test_a_new_folder_is_taken_and_an_old_one_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = Path("runs")
    assert free_folder("a", reuse=False) == free_folder("a", reuse=True) == runs / "a"
    (runs / "a").mkdir(parents=True)
    (runs / "a-b").mkdir()
    (runs / "ab-2").mkdir()
    assert free_folder("a", reuse=False) == runs / "a-2"
    assert free_folder("a", reuse=True) == runs / "a"
    (runs / "a-2").mkdir()
    assert free_folder("a", reuse=False) == runs / "a-3"
    with pytest.raises(UsageError, match="runs/a, runs/a-2 exist; say which is meant: --out runs/a-2"):
        free_folder("a", reuse=True)
    (runs / "a").rmdir()
    assert free_folder("a", reuse=True) == runs / "a-2"
