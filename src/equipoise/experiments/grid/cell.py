"""A cell of a grid: one comparison, planned, and written from the records of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from equipoise.data import PreparedDataset, splits_of
from equipoise.experiments.compare.comparison import (
    COLUMNS,
    Comparison,
    columns_of,
    figure_columns,
    summary_of,
)
from equipoise.experiments.compare.tuned import Tuned
from equipoise.experiments.grid.jobs import Job, Outcome
from equipoise.experiments.grid.output_folder import check_folder, held_configuration, open_folder
from equipoise.experiments.grid.planning import (
    Plan,
    checked_seeds,
    configuration,
    expand,
    jobs_of,
    reference_methods,
    seeds_of,
)
from equipoise.methods import METHODS, base_names
from equipoise.methods.core.creation import trains
from equipoise.tasks import task_named
from equipoise.training.assembly import ModelSpec, dataset_of, model_name
from equipoise.training.measuring.precision import with_precision
from equipoise.training.option_text import to_options
from equipoise.training.record import fingerprints
from equipoise.training.record.record import CONFIG as RUN_CONFIG
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Settings


@dataclass(frozen=True)
class Cell:
    """One comparison of a grid.

    Attributes:
        name: its folder within that of the grid; the empty name is that folder itself.
        settings: what its runs share, except for method and seed. The runs of one seed share splits, initial
            weights and batch order.
        methods: names or groups, see `equipoise.compare`.
        seeds: distinct whole numbers.
        method_options: options by method.
        rank_anyway: rank even if joint does not beat a linear model on its own inputs.
        varied: what distinguishes it from the other cells: option to value.
        tuned: what was found for its methods in a tuning, if they are compared with that.
    """

    name: str
    settings: Settings
    methods: Sequence[str]
    seeds: Iterable[int]
    method_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rank_anyway: bool = False
    varied: Mapping[str, Any] = field(default_factory=dict)
    tuned: Tuned | None = None


@dataclass(frozen=True)
class PlannedCell:
    """A cell with the runs that it consists of.

    Attributes:
        cell: with the methods and seeds of earlier runs too, where it is resumed.
        folder: of the comparison.
        plan: of its methods.
        jobs: all runs.
        done: those that were finished before.
    """

    cell: Cell
    folder: Path
    plan: Plan
    jobs: list[Job]
    done: list[Job]

    @classmethod
    def of(cls, cell: Cell, folder: Path, *, resume: bool, overwrite: bool) -> PlannedCell:
        """Check a cell against data, model and the runs in its folder; nothing is written.

        Raises:
            UsageError, DataError, RunFolderError: see `run_grid`.
        """
        methods, seeds = cell.methods, checked_seeds(cell.seeds)
        held = held_configuration(folder) if resume else {}
        # Once, as all runs of a comparison must have the same.
        cell = replace(cell, settings=with_precision(cell.settings, held))
        if resume:  # earlier runs of the comparison stay in its tables
            methods = list(dict.fromkeys([*held.get("methods", []), *methods]))
            held_seeds = seeds_of(held["seeds"], held.get("first_seed", 0)) if held else []
            seeds = list(dict.fromkeys([*held_seeds, *seeds]))
        plan = expand(cell.settings, methods, cell.method_options, seeds[0], cell.tuned)
        if cell.tuned is not None:
            _check_tuned(cell.tuned, cell, plan, seeds)
        jobs = jobs_of(cell.settings, plan, cell.method_options, seeds, folder, overwrite, cell.tuned)
        jobs = [replace(job, cell=cell.name) for job in jobs]
        done = [job for job in jobs if resume and _finished(job, plan.data)]
        return cls(replace(cell, methods=methods, seeds=seeds), folder, plan, jobs, done)

    @property
    def name(self) -> str:
        """That of the cell."""
        return self.cell.name

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Check the folder; see `check_folder`."""
        check_folder(self.folder, self._configuration(), resume=resume, overwrite=overwrite)

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Prepare the folder, whose lock is held; see `open_folder`."""
        open_folder(self.folder, self._configuration(), resume=resume, overwrite=overwrite)

    def _configuration(self) -> dict[str, Any]:
        cell = self.cell
        return configuration(
            cell.settings,
            cell.methods,
            list(cell.seeds),
            cell.method_options,
            cell.rank_anyway,
            cell.tuned,
        )

    def complete(self, outcomes: Mapping[Path, Outcome]) -> bool:
        """Return whether all runs have ended."""
        return all(job.folder in outcomes for job in self.jobs)

    def so_far(self, outcomes: Mapping[Path, Outcome]) -> Comparison | None:
        """Return the comparison of the runs that have ended, unranked; None if none is finished."""
        listed = [job for job in self.jobs if job.listed]
        own = [outcomes[job.folder] for job in listed if job.folder in outcomes]
        if all(outcome.error is not None for outcome in own):
            return None
        comparison = self._comparison(own)
        if len(own) < len(listed):
            said = f"the comparison goes on: {len(own)} of {len(listed)} runs have ended"
            comparison.summary.update(ranked=False, not_ranked_because=[said])
            comparison.summary.pop("ranked_despite", None)
        return comparison

    def write(self, outcomes: Mapping[Path, Outcome]) -> Comparison:
        """Write the comparison from the records of its runs, and return it."""
        comparison = self._comparison([outcomes[job.folder] for job in self.jobs if job.listed])
        comparison.write()
        return comparison

    def _comparison(self, own: Sequence[Outcome]) -> Comparison:
        task, ended = task_named(self.plan.data.task), {outcome.job.settings.seed for outcome in own}
        results = self._results(own)
        finished = [RunRecord(outcome.job.folder).result() for outcome in own if outcome.error is None]
        tuned, names = self.cell.tuned, list(dict.fromkeys(job.settings.method for job in self.jobs))
        tuning = tuned.summary(self.cell.settings, names) if tuned is not None else None
        seeds = [seed for seed in self.cell.seeds if seed in ended]
        summary = summary_of(results, finished, seeds, task, self.cell.rank_anyway, tuning=tuning)
        options = {result["method"]: result["method_options"] for result in finished}
        for method, values in summary["methods"].items():
            values["experimental"] = any(METHODS[name].experimental for name in base_names(method))
            values["options"] = options.get(method)
        compared = {base for name in self.plan.parts for base in base_names(name)}
        summary |= {
            "left_out": self.plan.left_out,
            "missing_references": [name for name in reference_methods() if name not in compared],
        }
        return Comparison(self.folder, results, summary)

    def _results(self, outcomes: Sequence[Outcome]) -> pd.DataFrame:
        settings, task = self.cell.settings, task_named(self.plan.data.task)
        dataset = dataset_of(settings)
        model = model_name(settings, ModelSpec.of(dataset))
        rows = []
        for outcome in outcomes:
            own = outcome.job.settings
            row: dict[str, Any] = dict.fromkeys(COLUMNS)
            row |= {"dataset": dataset.name, "model": model, "method": own.method, "seed": own.seed}
            row |= {"epochs": own.budget.epochs, "status": "ok"}
            if outcome.error is None:
                result = RunRecord(outcome.job.folder).result()
                row |= {key: result[key] for key in COLUMNS if key in result}
                row |= figure_columns(result, task)
            else:
                row["status"] = "failed: " + " ".join(outcome.error.split())
            rows.append(row)
        return pd.DataFrame(rows, columns=columns_of(task))


def _check_tuned(tuned: Tuned, cell: Cell, plan: Plan, seeds: Sequence[int]) -> None:
    """Check that a comparison departs from the tuning in nothing but its seeds.

    Raises:
        UsageError: it does.
    """
    tuned.check_data(plan.data, cell.settings)
    tuned.check_settings(cell.settings)
    tuned.check_seeds(seeds)
    parts = (part for parts in plan.parts.values() for part in parts)
    tuned.check_methods(dict.fromkeys(name for name in (*plan.parts, *parts) if trains(name)))


def _finished(job: Job, dataset: PreparedDataset) -> bool:
    """Return whether a run was finished before.

    Raises:
        RunFolderError: the folder holds the run with other options, or on other data.
    """
    record = RunRecord(job.folder)
    if not record.path(RUN_CONFIG).is_file():
        return False
    record.check_same(to_options(job.settings))
    if not record.complete:
        return False
    splits = splits_of(dataset, job.settings.splitting_seed)
    data = {"data_fingerprint": dataset.fingerprint, "split_fingerprint": splits.fingerprint}
    record.check_data(data | fingerprints.of_weights(job.settings))
    return True
