"""A page is written of every summary that is read, also of one with other entries than expected."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from equipoise.experiments.compare.comparison import SUMMARY, read_comparison
from other_content import refuses_other_content

EARLIER = Path(__file__).parents[1] / "support" / "earlier" / "comparison"


@pytest.mark.matrix
def test_a_page_is_written_of_every_summary_that_is_read(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EARLIER, tmp_path / "comparison"))

    def show(file: Path) -> None:
        assert "<table" in read_comparison(file.parent)._repr_html_()

    refuses_other_content(show, folder / SUMMARY, reader="page of a comparison")
