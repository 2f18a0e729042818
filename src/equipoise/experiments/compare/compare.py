"""Several methods on one dataset over several seeds, under equal conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from equipoise.data import PreparedDataset, load_dataset, splits_of
from equipoise.experiments.compare.comparison import BASELINE, COLUMNS, Comparison, columns_of, figures_of
from equipoise.experiments.compare.executors import Executor, Outcome, Task, make_executor
from equipoise.experiments.compare.fairness import obstacles
from equipoise.experiments.compare.output_folder import held_configuration, open_folder
from equipoise.experiments.compare.planning import (
    ALL,
    DEFAULT_METHODS,
    REFERENCES,
    Plan,
    checked_seeds,
    configuration,
    expand,
    reference_methods,
    seeds_of,
    tasks_of,
)
from equipoise.experiments.compare.statistics import rank, summarise
from equipoise.methods import METHODS, base_names
from equipoise.tasks import CLASSIFICATION, task_named
from equipoise.tasks import Task as TargetTask
from equipoise.training.assembly import ModelSpec, model_name
from equipoise.training.option_text import to_options
from equipoise.training.record.record import CONFIG as RUN_CONFIG
from equipoise.training.record.record import ERROR, RunRecord, locked, write_atomically
from equipoise.training.settings import Settings

__all__ = [
    "ALL",
    "DEFAULT_METHODS",
    "REFERENCES",
    "Observer",
    "Plan",
    "compare",
    "expand",
    "reference_methods",
    "seeds_of",
]


class Observer(Protocol):
    """Somebody who is told how a comparison goes on."""

    def planned(self, folder: Path, tasks: Sequence[Task]) -> None:
        """The runs are known; none has begun."""

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
    observer: Observer | None = None,
) -> Comparison:
    """Run every method with every seed, and write `results.csv` and `summary.json`.

    Args:
        settings: what all runs share; its method and seed are replaced.
        methods: names (`unimodal` stands for each modality alone, `references` for the reference runs, `all`
            for every method that the model can be trained by, `a+b` for two methods in one run).
        seeds: distinct seeds; the runs of one seed share splits, initial weights and batch order.
        folder: output folder.
        method_options: options by method name.
        executor: `local` or `ray`.
        workers: processes of the local executor.
        resume: keep finished runs of this comparison, go on with interrupted ones.
        overwrite: replace the comparison in `folder`.
        observer: is told of the plan and of each run that ends.

    Raises:
        UsageError, DataError, RunFolderError: before the first run, where anything is wrong with methods,
            options, data or folder.
    """
    chosen = dict(method_options or {})
    seed_list = checked_seeds(seeds)
    if resume:  # what the comparison held before stays in its tables
        held = held_configuration(folder)
        methods = list(dict.fromkeys([*held.get("methods", []), *methods]))
        held_seeds = seeds_of(held["seeds"], held.get("first_seed", 0)) if held else []
        seed_list = list(dict.fromkeys([*held_seeds, *seed_list]))
    plan = expand(settings, methods, chosen, seed_list[0])
    runner = make_executor(executor, workers)
    tasks = tasks_of(settings, plan, chosen, seed_list, folder, overwrite)
    done = {task.folder: Outcome(task) for task in tasks if resume and _finished(task, plan.data)}
    described = configuration(settings, methods, seed_list, chosen)
    open_folder(folder, described, resume=resume, overwrite=overwrite)
    with locked(folder):
        outcomes = _execute(runner, tasks, done, observer)
    target = task_named(plan.data.task)
    results = _collect(outcomes, settings, target)
    compared = {base for name in plan.parts for base in base_names(name)}
    summary = _summarise(results, outcomes, seed_list, target) | {
        "left_out": plan.left_out,
        "missing_references": [name for name in reference_methods() if name not in compared],
    }
    comparison = Comparison(folder, results, summary)
    comparison.write()
    return comparison


def _execute(
    runner: Executor, tasks: Sequence[Task], done: Mapping[Path, Outcome], observer: Observer | None
) -> list[Outcome]:
    """Run what is not done yet; return the outcomes of the runs that were asked for, in task order."""
    if observer is not None:
        observer.planned(tasks[0].parts_folder, tasks)
    outcomes = dict(done)
    for outcome in runner.map(task for task in tasks if task.folder not in outcomes):
        outcomes[outcome.task.folder] = outcome
        if outcome.details:
            outcome.task.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(outcome.task.folder / ERROR, outcome.details)
        if observer is not None:
            observer.ended(outcome)
    return [outcomes[task.folder] for task in tasks if task.listed]


def _finished(task: Task, dataset: PreparedDataset) -> bool:
    """Tell whether a run needs no process, as it came to its end before.

    Raises:
        RunFolderError: the folder holds the run with other options, or on other data.
    """
    record = RunRecord(task.folder)
    if not record.path(RUN_CONFIG).is_file():
        return False
    record.check_same(to_options(task.settings))
    if not record.complete:
        return False
    splits = splits_of(dataset, task.settings.splitting_seed)
    record.check_data({"data_fingerprint": dataset.fingerprint, "split_fingerprint": splits.fingerprint})
    return True


def _collect(outcomes: Sequence[Outcome], settings: Settings, target: TargetTask) -> pd.DataFrame:
    dataset = load_dataset(settings.data)
    model = model_name(settings, ModelSpec.of(dataset))
    rows = []
    for outcome in outcomes:
        own = outcome.task.settings
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {"dataset": dataset.name, "model": model, "method": own.method, "seed": own.seed}
        row |= {"epochs": own.budget.epochs, "status": "ok"}
        if outcome.error is None:
            result = RunRecord(outcome.task.folder).result()
            row |= {key: result[key] for key in COLUMNS if key in result}
            row |= figures_of(result, target)
        else:
            row["status"] = "failed: " + " ".join(outcome.error.split())
        rows.append(row)
    return pd.DataFrame(rows, columns=columns_of(target))


def _summarise(
    results: pd.DataFrame, outcomes: Sequence[Outcome], seeds: Sequence[int], target: TargetTask
) -> dict[str, Any]:
    finished = [RunRecord(o.task.folder).result() for o in outcomes if o.error is None]
    methods = summarise(results, BASELINE, finished, target.main)
    reasons = obstacles(finished)
    places = {} if reasons else rank(methods)
    options = {result["method"]: result["method_options"] for result in finished}
    for method, values in methods.items():
        values["rank"] = places.get(method)
        values["experimental"] = any(METHODS[name].experimental for name in base_names(method))
        values["options"] = options.get(method)
    return {
        "dataset": str(results["dataset"].iloc[0]),
        "model": str(results["model"].iloc[0]),
        "seeds": list(seeds),
        "metric": f"test_{target.main}",
        **({} if target is CLASSIFICATION else {"task": target.name}),
        "ranked": not reasons,
        "not_ranked_because": reasons,
        "methods": methods,
    }
