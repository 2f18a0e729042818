"""Grids: several comparisons, all runs of which are computed by one pool of workers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from equipoise.experiments.compare.comparison import Comparison
from equipoise.experiments.grid.cell import Cell, PlannedCell
from equipoise.experiments.grid.current import CurrentReports
from equipoise.experiments.grid.executors import Executor, make_executor
from equipoise.experiments.grid.jobs import Job, Outcome
from equipoise.experiments.grid.output_folder import check_grid_folder, tidy
from equipoise.files.whole import write_atomically
from equipoise.training.option_text import to_options
from equipoise.training.processes.group import refuse_several
from equipoise.training.record.locks import locked
from equipoise.training.record.record import ERROR
from equipoise.training.record.tracked import failures
from equipoise.types import EquipoiseError, NoSpaceError, UsageError, warn


class Observer(Protocol):
    """Is notified of the progress of a grid."""

    def planned(self, jobs: Sequence[Job], done: Sequence[Job]) -> None:
        """The runs are known, with those that were `done` before; no other has started."""

    def ended(self, outcome: Outcome) -> None:
        """A run has ended."""


def run_grid(
    cells: Iterable[Cell],
    out: Path,
    *,
    executor: str = "local",
    workers: int | None = None,
    side_by_side: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
    reports: CurrentReports | None = None,
) -> dict[str, Comparison]:
    """Compute all runs of all cells, and write `results.csv` and `summary.json` of each into its folder.

    A failed run is a row with its cause, and the others continue. With `resume` finished runs are kept,
    interrupted ones continued and failed ones repeated. `observer` is notified of the plan and of each run
    that ends, `reports` of each that ends in a comparison. For the other arguments see `equipoise.compare`.

    Returns:
        The comparison of each cell by name.

    Raises:
        UsageError, DataError, RunFolderError: before the first run, if methods, options, data or a folder of
            any cell are wrong.
        NoSpaceError: the disk is full; `resume` continues.
    """
    refuse_several()
    runner = make_executor(executor, workers, side_by_side)
    planned = _planned(list(cells), out, resume=resume, overwrite=overwrite)
    for cell in planned:
        cell.check(resume=resume, overwrite=overwrite)
    with ExitStack() as locks:
        for cell in planned:
            locks.enter_context(locked(cell.folder))
        for cell in planned:
            cell.open(resume=resume, overwrite=overwrite)
            tidy(cell.folder, [job.folder for job in cell.done])
        return _execute(runner, planned, observer, reports)


def _planned_cell(cell: Cell, out: Path, *, resume: bool, overwrite: bool) -> PlannedCell:
    try:
        return PlannedCell.of(cell, out / cell.name, resume=resume, overwrite=overwrite)
    except EquipoiseError as error:
        if cell.name:
            error.args = (f"{cell.name}: {error}",)
        raise


def _planned(cells: Sequence[Cell], out: Path, *, resume: bool, overwrite: bool) -> list[PlannedCell]:
    names = [cell.name for cell in cells]
    if not names:
        raise UsageError("the grid has no cell; expected at least one.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(
            f"two cells of the grid are named {twice!r}; expected values that differ, and folders of data "
            "with names that differ."
        )
    if names != [""]:
        check_grid_folder(out)
    with _each_warning_once():
        planned = [_planned_cell(cell, out, resume=resume, overwrite=overwrite) for cell in cells]
    computed: dict[str, Path] = {}
    return [replace(cell, jobs=[_once(job, computed) for job in cell.jobs]) for cell in planned]


@contextmanager
def _each_warning_once() -> Iterator[None]:
    """Issue the warnings of a block at its end, those that several cells have in common once."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield
    finally:
        for one in {(one.category, str(one.message)): one for one in caught}.values():
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _once(job: Job, computed: dict[str, Path]) -> Job:
    """Return a job that copies the run where one of an earlier cell, in `computed`, has equal settings."""
    first = computed.setdefault(json.dumps(to_options(job.settings), sort_keys=True), job.folder)
    return job if first == job.folder else replace(job, same_as=first, after=(first,))


def _execute(
    runner: Executor,
    cells: Sequence[PlannedCell],
    observer: Observer | None,
    reports: CurrentReports | None,
) -> dict[str, Comparison]:
    """Compute the jobs that are not done; write each comparison as soon as its last run has ended."""
    jobs = [job for cell in cells for job in cell.jobs]
    if observer is not None:
        observer.planned(jobs, [job for cell in cells for job in cell.done])
    outcomes = {job.folder: Outcome(job) for cell in cells for job in cell.done}
    found = {cell.name: cell.write(outcomes) for cell in cells if cell.complete(outcomes)}
    said: set[str] = set()
    with closing(runner.map([job for job in jobs if job.folder not in outcomes])) as ended:
        for outcome in ended:
            if outcome.no_space:  # the other runs have their checkpoints, and would fail, too
                raise NoSpaceError(outcome.error)
            outcomes[outcome.job.folder] = outcome
            if outcome.details:
                write_atomically(outcome.job.folder / ERROR, outcome.details)
            for failure in set(failures(outcome.job.folder)) - said:  # of many runs, once
                warn(failure)
                said.add(failure)
            if observer is not None:
                observer.ended(outcome)
            cell = next(cell for cell in cells if cell.name == outcome.job.cell)
            if cell.complete(outcomes):
                found[cell.name] = cell.write(outcomes)
            if reports is not None:
                reports.ended(cell, outcomes)
    return {cell.name: found[cell.name] for cell in cells}
