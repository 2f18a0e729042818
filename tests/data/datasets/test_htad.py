"""HTAD as shipped in the package multiviewstacking."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import equipoise.data.datasets.htad as htad
from equipoise.data import DATASETS, RunData, guard, load_dataset, splits_of
from equipoise.types import DataError, MissingExtraError
from processes import python

needs_table = pytest.mark.skipif(
    importlib.util.find_spec("multiviewstacking") is None, reason="needs the extra 'demo'"
)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))


@needs_table
def test_facts() -> None:
    dataset = load_dataset("htad")
    assert len(dataset) == 1386
    assert {name: (spec.shape, spec.dtype, spec.kind) for name, spec in dataset.modalities.items()} == {
        "audio": ((36,), "float32", "vector"),
        "accelerometer": ((16,), "float32", "vector"),
    }
    assert dataset.classes == (
        "brush_teeth", "eat_chips", "mop_floor", "sweep", "type_on_keyboard", "wash_hands", "watch_tv"
    )  # fmt: skip
    assert np.bincount(dataset.target).tolist() == [180, 282, 181, 178, 179, 180, 206]
    assert dataset.group is None
    assert dataset.split is None
    assert "MIT" in (dataset.licence or "")
    assert "Garcia-Ceja" in (dataset.source or "")
    dataset.verify()


@needs_table
def test_it_trains_without_leaks() -> None:
    dataset = load_dataset("htad")
    splits = splits_of(dataset)
    assert [len(rows) for _, rows in splits.items()] == [832, 277, 277]
    assert guard(dataset, splits) == []
    run = RunData(dataset, splits, 64)
    assert len(run.train) == 13
    assert next(iter(run.train)).inputs["audio"].shape == (64, 36)


@needs_table
def test_the_package_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from equipoise.data.datasets.htad import HTAD; "
        f"HTAD().build({str(tmp_path / 'htad')!r}); assert 'multiviewstacking' not in sys.modules"
    )
    ended = python("-c", code, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS["htad"], "package", "no_such_package_here")
    assert not DATASETS["htad"]().available()
    assert DATASETS["htad"]().how_to_get() == "pip install 'equipoise[demo]'"
    with pytest.raises(MissingExtraError, match=r"htad.*pip install 'equipoise\[demo\]'"):
        load_dataset("htad")


def test_another_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "htad.csv"
    table.write_text("class,v1_a,v2_a\nx,1,2\n")
    monkeypatch.setattr(htad, "_find_table", lambda: table)
    with pytest.raises(DataError, match=r"1 columns v1_.*expected 36"):
        htad.HTAD().build(tmp_path / "set")
