"""Every method has a page that agrees with the code."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml

from equipoise.methods import METHODS

PAGES = Path(__file__).parents[2] / "docs" / "methods"
PARTS = ("**Idea.**", "**Formula.**", "**Needs.**", "**Cost.**", "**Source.**")


@pytest.mark.parametrize("name", METHODS)
def test_a_page_has_all_its_parts(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    places = [text.find(part) for part in PARTS]
    assert min(places) > 0, [part for part, place in zip(PARTS, places, strict=True) if place < 0]
    assert places == sorted(places)
    assert ("Experimental" in text) == METHODS[name].experimental
    for identifier in re.findall(r"\d{4}\.\d{5}", METHODS[name].source):
        assert identifier in text


@pytest.mark.parametrize("name", METHODS)
def test_a_page_names_every_option_with_its_default(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) >= 3:
            for option in re.findall(r"`([a-z_0-9]+)`", cells[0]):
                rows[option] = cells[1]
    for option in fields(METHODS[name]):
        if option.name == "more" or option.default is option.default_factory is MISSING:
            continue
        assert option.name in rows, f"{name}.md does not mention {option.name}"
        default = option.default if option.default is not MISSING else option.default_factory()
        # Defaults that depend on the training or the modalities are described in words.
        if default not in (None, [], {}) and "," not in rows[option.name]:
            written = yaml.safe_load(rows[option.name].strip("`"))
            assert written == default, f"{name}.md, {option.name}: {written!r}, the code has {default!r}"


def test_the_index_names_every_method() -> None:
    text = (PAGES / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\(([a-z0-9-]+)\.md\)", text)) == sorted(METHODS)


def test_every_page_belongs_to_a_method() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {*METHODS, "README"}


def test_the_index_is_what_the_command_writes() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "method_index.py"
    spec = importlib.util.spec_from_file_location("method_index", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (PAGES / "README.md").read_text(encoding="utf-8") == module.index(), "run: make method-index"
