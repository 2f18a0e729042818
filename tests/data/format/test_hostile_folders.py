"""A prepared folder that another person made: damaged, with links out of it, or with formulas as names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.data import PreparedDataset, open_dataset
from equipoise.types import DataError
from mutations import refuses_all

Write = Callable[..., PreparedDataset]
NAMES = ("dataset.json", "index.csv", "00_a.npy")


@pytest.mark.mutations
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_refused(name: str, write: Write) -> None:
    folder = write(6).path

    def read(_: Path) -> None:
        dataset = open_dataset(folder)
        dataset.array("a").sum()

    other = b'null,"",[]{}-1 \xff\x00 "shape": 1e999'
    assert refuses_all(read, folder / name, 100, reader="prepared dataset", other=other)


@pytest.mark.parametrize("name", [*NAMES, "preparation.json"])
def test_a_link_that_leaves_the_folder_is_refused(name: str, write: Write, tmp_path: Path) -> None:
    folder, outside = write(preparation={"readers": {}}).path, tmp_path / "outside"
    shutil.move(folder / name, outside)
    (folder / name).symlink_to(outside)
    with pytest.raises(DataError, match="is a link to .*outside, outside its folder"):
        dataset = open_dataset(folder)
        dataset.array("a")
    (folder / name).unlink()
    shutil.move(outside, folder / "other")
    (folder / name).symlink_to("other")
    whole = tmp_path / "whole"
    whole.symlink_to(folder)  # a folder may be reached by a link, and have links within
    assert len(open_dataset(whole)) == 60


def test_names_that_a_spreadsheet_would_run_are_read_back(write: Write) -> None:
    ids = [f"=cmd|' /C calc'!A{n}" for n in range(20)] + [f"-{n}" for n in range(20)]
    ids += [f"'@{n}" for n in range(20)]
    arguments: dict[str, Any] = {"ids": ids, "group": [f"+{n}x" for n in range(60)]}
    dataset = write(**arguments)
    assert dataset.ids.tolist() == ids
    lines = (dataset.path / "index.csv").read_text().splitlines()[1:]
    assert lines[0].startswith("\"'=cmd")
    assert lines[20].startswith('"-0"')  # a number
    assert open_dataset(dataset.path).group.tolist() == arguments["group"]
