"""Runs of the league that have no row yet."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rows import Rows
from sets import LeagueSet

from equipoise.cli.tables import progress_console
from equipoise.cli.views.grid_view import GridView
from equipoise.experiments.grid.cell import Cell
from equipoise.experiments.grid.grid import run_grid
from equipoise.experiments.grid.jobs import Job, Outcome
from equipoise.experiments.grid.planning import expand
from equipoise.experiments.paper.sets import Sources
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Settings

SIDE_BY_SIDE = 6


@dataclass(frozen=True)
class Wanted:
    """What is to be run on one set.

    Attributes:
        name: of the set.
        settings: what its runs share.
        methods: to be run, with each modality of `unimodal` by itself.
        rows: those that there are.
    """

    name: str
    settings: Settings
    methods: Sequence[str]
    rows: Rows

    @classmethod
    def of(
        cls,
        name: str,
        one: LeagueSet,
        sources: Sources,
        methods: Sequence[str],
        rows: Rows,
        without: Iterable[str] = (),
    ) -> Wanted:
        """Prepare a set, and expand the groups of methods."""
        settings = one.settings(sources)
        plan = expand(settings, methods, {}, 0)
        for method, reason in plan.left_out.items():
            print(f"{name}: {method} is left out: {reason}", flush=True)
        return cls(name, settings, [method for method in plan.parts if method not in set(without)], rows)

    def cells(self, seeds: Sequence[int], out: Path) -> list[Cell]:
        """Return the runs without a row, in cells of seeds that lack the same methods."""
        lacking: dict[tuple[str, ...], list[int]] = {}
        for seed in seeds:
            runs = {name: self.settings.with_method(name, {}, seed) for name in self.methods}
            missing = tuple(name for name, run in runs.items() if not self.rows.has(run))
            lacking.setdefault(missing, []).append(seed)
        found = []
        for missing, chosen in lacking.items():
            if missing:
                names = (f"{self.name}-{chosen[0]}-{count}" for count in itertools.count())
                name = next(name for name in names if not (out / name).exists())
                found.append(Cell(name, self.settings, missing, chosen))
        return found


class Keeper:
    """Writes a row for each run that ends; an `Observer` of a grid."""

    def __init__(self, rows: Mapping[str, Rows], view: GridView) -> None:
        self._rows, self._view = rows, view
        self._commit = commit()

    def planned(self, jobs: Sequence[Job], done: Sequence[Job]) -> None:
        """Show the plan."""
        self._view.planned(jobs, done)

    def ended(self, outcome: Outcome) -> None:
        """Write the row, and show that the run has ended."""
        job = outcome.job
        if job.listed:
            rows = self._rows[job.cell]
            rows.add(job.settings, RunRecord(job.folder), outcome.error, self._commit)
        self._view.ended(outcome)


def run(wanted: Iterable[Wanted], seeds: Sequence[int], out: Path, workers: int | None) -> None:
    """Compute what is missing; it can be interrupted at any time, and the same call resumes it."""
    cells, rows = [], {}
    for one in wanted:
        for cell in one.cells(seeds, out):
            cells.append(cell)
            rows[cell.name] = one.rows
    if not cells:
        return
    with GridView(progress_console()) as view:
        run_grid(cells, out, workers=workers, side_by_side=SIDE_BY_SIDE, observer=Keeper(rows, view))


def commit() -> str:
    """Return the commit of the code, with a plus where files under `src` differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "src") else "")
