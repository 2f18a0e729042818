"""The pages of the datasets agree with the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from equipoise.data.datasets import DATASETS
from equipoise.data.datasets.from_source import SourceDataset

PAGES = Path(__file__).parents[2] / "docs" / "datasets"
NAMES = (
    "cremad",
    "kinetics-sounds",
    "ave",
    "vggsound",
    "avletters",
    "egogestar",
    "phone-watch",
    "fsdd-mnist",
    "ucf101",
    "food101",
    "table",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_source_command_and_every_option_with_its_default(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    dataset = DATASETS[name]
    assert issubclass(dataset, SourceDataset)
    assert text.startswith((f"# {name}\n", f"# {name}: "))
    assert f"equipoise prepare {name} --source" in text
    if name != "table":  # The user's own recordings have no source or paper to name.
        assert dataset.source in text
        assert " ".join(dataset.citation.split()) in " ".join(text.split())
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \|", text, re.MULTILINE))
    for option in fields(dataset):
        default = "none" if option.default in ("", (), None) else str(option.default)
        assert rows[option.name].strip("`") == default, option.name


def test_the_index_names_every_dataset() -> None:
    text = (PAGES / "README.md").read_text(encoding="utf-8")
    for name, dataset in DATASETS.items():
        assert f"| `{name}` |" in text
        if issubclass(dataset, SourceDataset):
            assert f"({name}.md)" in text
            assert (PAGES / f"{name}.md").is_file()
