"""Several methods on one dataset over several seeds, under equal conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from equipoise.data import PreparedDataset, splits_of
from equipoise.experiments.compare.comparison import (
    COLUMNS,
    Comparison,
    columns_of,
    figure_columns,
    summary_of,
)
from equipoise.experiments.compare.executors import Executor, Job, Outcome, make_executor
from equipoise.experiments.compare.output_folder import held_configuration, open_folder
from equipoise.experiments.compare.planning import (
    checked_seeds,
    configuration,
    expand,
    jobs_of,
    reference_methods,
    seeds_of,
)
from equipoise.methods import METHODS, base_names
from equipoise.tasks import Task, task_named
from equipoise.training.assembly import ModelSpec, dataset_of, model_name
from equipoise.training.option_text import to_options
from equipoise.training.record.record import CONFIG as RUN_CONFIG
from equipoise.training.record.record import ERROR, RunRecord, locked
from equipoise.training.settings import Settings
from equipoise.whole_files import write_atomically


class Observer(Protocol):
    """Is notified of the progress of a comparison."""

    def planned(self, folder: Path, jobs: Sequence[Job]) -> None:
        """The runs are known; none has started."""

    def ended(self, outcome: Outcome) -> None:
        """A run has ended."""


def compare(
    settings: Settings,
    methods: Sequence[str],
    seeds: Iterable[int],
    folder: Path,
    *,
    method_options: Mapping[str, Mapping[str, Any]] | None = None,
    executor: str = "local",
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    rank_anyway: bool = False,
    observer: Observer | None = None,
) -> Comparison:
    """Run every method with every seed, and write `results.csv` and `summary.json`.

    All runs share `settings`, except for method and seed; the runs of one seed share splits, initial weights
    and batch order. `observer` is notified of the plan and of each run that ends. For the other arguments see
    `equipoise.compare`.

    Raises:
        UsageError, DataError, RunFolderError: before the first run, if methods, options, data or folder are
            wrong.
    """
    chosen = dict(method_options or {})
    seed_list = checked_seeds(seeds)
    if resume:  # earlier runs of the comparison stay in its tables
        held = held_configuration(folder)
        methods = list(dict.fromkeys([*held.get("methods", []), *methods]))
        held_seeds = seeds_of(held["seeds"], held.get("first_seed", 0)) if held else []
        seed_list = list(dict.fromkeys([*held_seeds, *seed_list]))
    plan = expand(settings, methods, chosen, seed_list[0])
    runner = make_executor(executor, workers)
    jobs = jobs_of(settings, plan, chosen, seed_list, folder, overwrite)
    done = {job.folder: Outcome(job) for job in jobs if resume and _finished(job, plan.data)}
    described = configuration(settings, methods, seed_list, chosen, rank_anyway)
    open_folder(folder, described, resume=resume, overwrite=overwrite)
    with locked(folder):
        outcomes = _execute(runner, jobs, done, observer)
    task = task_named(plan.data.task)
    results = _collect(outcomes, settings, task)
    compared = {base for name in plan.parts for base in base_names(name)}
    summary = _summarise(results, outcomes, seed_list, task, rank_anyway) | {
        "left_out": plan.left_out,
        "missing_references": [name for name in reference_methods() if name not in compared],
    }
    comparison = Comparison(folder, results, summary)
    comparison.write()
    return comparison


def _execute(
    runner: Executor, jobs: Sequence[Job], done: Mapping[Path, Outcome], observer: Observer | None
) -> list[Outcome]:
    """Compute the jobs that are not done; return the outcomes of the listed ones, in order."""
    if observer is not None:
        observer.planned(jobs[0].parts_folder, jobs)
    outcomes = dict(done)
    for outcome in runner.map(job for job in jobs if job.folder not in outcomes):
        outcomes[outcome.job.folder] = outcome
        if outcome.details:
            write_atomically(outcome.job.folder / ERROR, outcome.details)
        if observer is not None:
            observer.ended(outcome)
    return [outcomes[job.folder] for job in jobs if job.listed]


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
    record.check_data({"data_fingerprint": dataset.fingerprint, "split_fingerprint": splits.fingerprint})
    return True


def _collect(outcomes: Sequence[Outcome], settings: Settings, task: Task) -> pd.DataFrame:
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


def _summarise(
    results: pd.DataFrame, outcomes: Sequence[Outcome], seeds: Sequence[int], task: Task, rank_anyway: bool
) -> dict[str, Any]:
    finished = [RunRecord(o.job.folder).result() for o in outcomes if o.error is None]
    summary = summary_of(results, finished, seeds, task, rank_anyway)
    options = {result["method"]: result["method_options"] for result in finished}
    for method, values in summary["methods"].items():
        values["experimental"] = any(METHODS[name].experimental for name in base_names(method))
        values["options"] = options.get(method)
    return summary
