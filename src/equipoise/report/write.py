"""From a folder to its report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from equipoise.diagnosis import Diagnosis
from equipoise.experiments import Comparison, read_comparison
from equipoise.experiments.comparison import RESULTS, SUMMARY
from equipoise.report.comparison import comparison_page
from equipoise.report.diagnosis import diagnosis_page
from equipoise.report.page import write
from equipoise.report.records import gather, runs_of
from equipoise.report.single import run_page
from equipoise.training.record import CONFIG, RESULT, RunRecord
from equipoise.types import RunFolderError, UsageError

REPORT: Final = "report.html"


def write_comparison_report(comparison: Comparison, path: Path) -> Path:
    """Write the report of a comparison.

    Args:
        comparison: its results; its runs are read from its folder.
        path: the HTML file; an existing one is replaced.

    Returns:
        The file.

    Raises:
        RunFolderError: a record is damaged, or the file cannot be written.
    """
    return write(comparison_page(comparison, runs_of(comparison)), path)


def write_run_report(run_dir: Path, path: Path) -> Path:
    """Write the report of one finished run; see `write_comparison_report`."""
    return write(run_page(run_dir), path)


def write_diagnosis_report(diagnosis: Diagnosis, path: Path, source: str) -> Path:
    """Write the report of a diagnosis; see `write_comparison_report`.

    Args:
        diagnosis: the learning states.
        path: the HTML file.
        source: what was diagnosed, such as the path of a run or a file.
    """
    return write(diagnosis_page(diagnosis, source), path)


def write_report(folders: Sequence[Path], path: Path | None = None) -> Path:
    """Write one report of a comparison, of a run, or of several runs together.

    Args:
        folders: the folder of one comparison, or of one or more runs.
        path: the HTML file; by default `report.html` in the folder, or in the one that all runs lie in.

    Returns:
        The file.

    Raises:
        RunFolderError: a folder holds neither, is not finished, or the file cannot be written.
        UsageError: no folder was given, or a comparison among others.
    """
    if not folders:
        raise UsageError("no folder was given; expected a comparison, or one or more runs.")
    comparisons = [folder for folder in folders if _kind(folder) == "comparison"]
    if comparisons and len({folder.resolve() for folder in folders}) > 1:
        raise UsageError(
            f"{comparisons[0]} is a comparison; expected one comparison by itself, or any number of runs."
        )
    target = path or Path(os.path.commonpath([folder.absolute() for folder in folders])) / REPORT
    if comparisons:
        return write_comparison_report(read_comparison(comparisons[0]), target)
    if len({folder.resolve() for folder in folders}) == 1:
        return write_run_report(folders[0], target)
    comparison, runs = gather(folders)
    return write(comparison_page(comparison, runs, kind="runs"), target)


def _kind(folder: Path) -> str:
    """Return `comparison` or `run`, also of one that is not finished: reading it says so.

    Raises:
        RunFolderError: the folder holds neither.
    """
    if any((folder / name).is_file() for name in (RESULTS, SUMMARY)) or (folder / "runs").is_dir():
        return "comparison"
    record = RunRecord(folder)
    if record.path(CONFIG).is_file() or record.path(RESULT).is_file():
        return "run"
    what = "holds neither a run nor a comparison" if folder.is_dir() else "does not exist"
    raise RunFolderError(
        f"{folder} {what}; expected a folder written by 'equipoise train' or 'equipoise compare'."
    )
