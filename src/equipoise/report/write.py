"""From a folder to its report.

Charts are made by Altair, which takes half a second to import. The pages import it, so they are imported when
one is written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from equipoise.data.format.folder import PREVIEW_FILE
from equipoise.data.format.prepared import PreparedDataset
from equipoise.experiments.compare.across import AcrossDatasets
from equipoise.experiments.compare.comparison import Comparison, read_comparison
from equipoise.experiments.examine.examination import Examination
from equipoise.experiments.grid.vary import read_grid
from equipoise.files.whole import write_atomically
from equipoise.relearning import Monitor
from equipoise.report.html import write
from equipoise.report.pages.page import Page
from equipoise.report.records import (
    COMPARISON,
    GRID_OF_COMPARISONS,
    arranged,
    gather,
    kind_of,
    runs_of,
)
from equipoise.report.render import FORMATS, file_bytes, write_figures, write_file
from equipoise.types import PathError, UsageError

REPORT: Final = "report.html"
ACROSS: Final = "across-datasets.html"


def write_comparison_report(comparison: Comparison, path: Path) -> Path:
    """Write the report of a comparison, whose runs are read from its folder; return the file.

    Raises:
        RunFolderError: a record is damaged, or the file cannot be written.
    """
    from equipoise.report.pages.comparison import comparison_page

    return write(comparison_page(comparison, runs_of(comparison)), path)


def write_grid_report(found: Mapping[str, Comparison], path: Path) -> Path:
    """Write the report of a grid, given the comparison of each cell by name; return the file.

    Raises:
        RunFolderError: a record is damaged, or the file cannot be written.
    """
    from equipoise.report.pages.across import grid_page

    return write(grid_page(found), path)


def write_examination_report(found: Examination, path: str | os.PathLike[str]) -> Path:
    """Write the report of an examination, and its numbers as JSON next to it; see `write_report`."""
    from equipoise.report.pages.examination import examination_page

    numbers = file_of_numbers(Path(path))
    written = write(examination_page(found), Path(path))
    write_atomically(numbers, found.to_json())
    return written


def write_monitor_report(monitor: Monitor, path: str | os.PathLike[str]) -> Path:
    """Write what a monitor has measured so far as one HTML file that opens offline; return the file.

    Raises:
        RunFolderError: the file cannot be written.
    """
    from equipoise.report.pages.monitor import monitor_page

    return write(monitor_page(monitor), Path(path))


def file_of_numbers(report: Path) -> Path:
    """Return the file of the numbers of an examination.

    Raises:
        PathError: it is the report itself or a file of something else, as `result.json` of a run.
    """
    numbers = report.with_suffix(".json")
    other = numbers.exists() and not (numbers.is_file() and b'"verdicts"' in numbers.read_bytes())
    if numbers == report or other:
        raise PathError(
            f"the numbers of a report are written to {numbers}; choose another name than {report}."
        )
    return numbers


def write_preview(dataset: PreparedDataset) -> Path:
    """Write `preview.html` into the folder of a dataset: samples of the training split, lengths and classes.

    Raises:
        DataError: the dataset cannot be split.
        MissingExtraError: pillow, which makes the pictures, is not installed.
        RunFolderError: the file cannot be written.
    """
    from equipoise.report.pages.preview import preview_page

    return write(preview_page(dataset), dataset.path / PREVIEW_FILE)


def write_examination_figures(
    found: Examination, folder: Path, formats: Sequence[str] | None = None, width: str = "text"
) -> list[Path]:
    """Write the charts of an examination as figures for a paper; see `write_figures`."""
    from equipoise.report.pages.examination import examination_page

    return write_figures(examination_page(found).all_charts, folder, formats, width)


def write_critical_difference(across: AcrossDatasets, path: Path) -> Path:
    """Write the critical-difference diagram as a figure for a paper; the suffix chooses SVG, PNG or PDF.

    Raises:
        UsageError: the suffix is another one.
        RunFolderError: the file cannot be written.
    """
    from equipoise.report.charts.ranks import critical_difference

    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        expected = ", ".join(f".{name}" for name in FORMATS)
        raise UsageError(f"{path} ends in '{path.suffix}'; expected one of {expected}.")
    return write_file(path, file_bytes(critical_difference(across), kind), "figure", "folder")


def default_path(folders: Sequence[Path]) -> Path:
    """Return where the report of these folders is written by default.

    It is `report.html` in the folder, or in the common folder of all runs. Several comparisons, each with its
    own report, get `across-datasets.html` in their common folder.
    """
    common = Path(os.path.commonpath([folder.absolute() for folder in folders]))
    several = len({folder.resolve() for folder in folders}) > 1
    return common / (ACROSS if several and all(kind_of(f) == COMPARISON for f in folders) else REPORT)


def write_report(
    folders: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str] | None = None
) -> Path:
    """Write one report of a comparison, of several, of a grid, of a run, or of several runs together.

    Args:
        folders: folders of comparisons, one a dataset, or of runs; or that of a grid.
        path: the HTML file; see `default_path`.

    Returns:
        The file.

    Raises:
        RunFolderError: a folder holds neither, is not finished, or the file cannot be written.
        UsageError: no folder was given, or comparisons among runs.
    """
    paths = [Path(folder) for folder in folders]
    return write(page_of(paths), Path(path) if path is not None else default_path(paths))


def write_report_figures(
    folders: Sequence[Path], out: Path, formats: Sequence[str] | None = None, width: str = "text"
) -> list[Path]:
    """Write the charts of the report of these folders as figures for a paper; see `write_figures`."""
    return write_figures(page_of(folders).all_charts, out, formats, width)


def page_of(folders: Sequence[Path]) -> Page:
    """Return the page of a comparison, of several, of a grid, of a run, or of several; see `write_report`."""
    from equipoise.report.pages.across import across_page, grid_page
    from equipoise.report.pages.comparison import comparison_page
    from equipoise.report.pages.run import run_page

    distinct, kind = arranged(folders)
    if kind == GRID_OF_COMPARISONS:
        return grid_page(read_grid(distinct[0]))
    if kind == COMPARISON and len(distinct) > 1:
        return across_page([read_comparison(folder) for folder in distinct])
    if kind == COMPARISON:
        comparison = read_comparison(distinct[0])
        return comparison_page(comparison, runs_of(comparison))
    if len(distinct) == 1:
        return run_page(distinct[0])
    return comparison_page(*gather(distinct), kind="runs")
