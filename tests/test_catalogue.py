"""The facts that `equipoise list` shows: from the cache or, after a change of the sources, from the code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise import catalogue
from equipoise.cache import CACHE_VARIABLE, remember


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of the cache, which agrees with the code."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    catalogue.list_methods()
    return tmp_path / catalogue.FILE


def change(file: Path) -> None:
    """Make the cache differ from the code, so that it shows where facts come from."""
    kept = json.loads(file.read_text())
    kept["facts"]["methods"]["joint"]["summary"] = "from the cache"
    file.write_text(json.dumps(kept))


def test_the_cache_agrees_with_the_code(file: Path) -> None:
    kept = json.loads(file.read_text())["facts"]
    assert kept == json.loads(json.dumps(catalogue.from_code()))
    assert {"joint", "diagnose-relearn", "ogm-ge"} <= set(kept["methods"])


def test_facts_come_from_the_cache(file: Path) -> None:
    change(file)
    assert catalogue.list_methods()["joint"]["summary"] == "from the cache"


@pytest.mark.parametrize("how", ["edited", "added", "removed", "renamed"])
def test_a_change_of_the_sources_is_detected(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    change(file)
    copy = tmp_path / "package"
    for source in catalogue.SOURCES:
        for path in [catalogue.PACKAGE / source, *(catalogue.PACKAGE / source).rglob("*.*")]:
            if path.is_file():
                target = copy / path.relative_to(catalogue.PACKAGE)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    monkeypatch.setattr(catalogue, "PACKAGE", copy)
    assert catalogue.list_methods()["joint"]["summary"] == "from the cache"
    joint = copy / "methods" / "joint.py"
    if how == "edited":
        joint.write_text(joint.read_text() + "#")
    elif how == "added":
        (copy / "methods" / "another.py").touch()
    elif how == "removed":
        joint.unlink()
    else:
        joint.rename(copy / "methods" / "joined.py")
    assert catalogue.list_methods()["joint"]["summary"] != "from the cache"


@pytest.mark.parametrize("content", ["{", "[]", '{"digest": 1}', ""])
def test_a_damaged_cache_is_written_again(file: Path, content: str) -> None:
    whole = file.read_text()
    file.write_text(content)
    assert "joint" in catalogue.list_methods()
    assert file.read_text() == whole


def test_without_a_cache_the_code_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))  # no folder, so that nothing can be written
    assert "joint" in catalogue.list_methods()


def test_entries_of_other_packages_are_read_from_the_code(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(file)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [group] * (group == "equipoise.datasets"))
    assert catalogue.list_methods()["joint"]["summary"] != "from the cache"


def test_datasets_are_marked_as_ready_once_they_are_prepared(file: Path, tmp_path: Path) -> None:
    assert not catalogue.list_datasets()["cremad"]["ready"]
    assert "equipoise prepare cremad" in catalogue.list_datasets()["cremad"]["how_to_get"]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset.json").touch()
    remember("cremad", tmp_path / "set")
    facts = catalogue.list_datasets()["cremad"]
    assert facts["ready"]
    assert facts["how_to_get"] == ""
    assert "package" not in facts
