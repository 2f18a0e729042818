"""The facts that `equipoise list` shows: from the index where it is current, else from the code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise import catalogue


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the index that may be changed; nothing is remembered from before."""
    copy = tmp_path / "catalogue.json"
    copy.write_bytes(catalogue.INDEX.read_bytes())
    monkeypatch.setattr(catalogue, "INDEX", copy)
    catalogue.read_index.cache_clear()
    yield copy
    catalogue.read_index.cache_clear()


def test_the_index_holds_what_the_code_says() -> None:
    held = json.loads(catalogue.INDEX.read_text(encoding="utf-8"))
    message = "catalogue.json is older than the code; write it by 'make catalogue'"
    assert {kind: held[kind] for kind in catalogue.from_code()} == catalogue.from_code(), message
    assert held["sources"] == catalogue.digests(), message


def test_writing_it_again_gives_the_same_bytes(index: Path) -> None:
    before = index.read_bytes()
    catalogue.write_index()
    assert index.read_bytes() == before


def test_facts_come_from_the_index(index: Path) -> None:
    held = json.loads(index.read_text())
    held["methods"]["joint"]["summary"] = "from the index"
    index.write_text(json.dumps(held))
    assert catalogue.list_methods()["joint"]["summary"] == "from the index"


@pytest.mark.parametrize("change", ["edited", "added", "removed", "damaged", "missing"])
def test_an_index_of_other_sources_is_not_used(index: Path, change: str) -> None:
    held = json.loads(index.read_text())
    held["methods"]["joint"]["summary"] = "from the index"
    file = "methods/joint.py"
    if change == "edited":
        held["sources"][file] = "0" * 16
    elif change == "added":  # a file that the index does not know
        del held["sources"][file]
    elif change == "removed":
        held["sources"]["methods/gone.py"] = "0" * 16
    index.write_text("{" if change == "damaged" else json.dumps(held))
    if change == "missing":
        index.unlink()
    assert catalogue.list_methods()["joint"]["summary"] != "from the index"


def test_an_index_is_not_used_where_another_package_adds_entries(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert catalogue.read_index() is not None
    catalogue.read_index.cache_clear()
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [group] * (group == "equipoise.datasets"))
    assert catalogue.read_index() is None
