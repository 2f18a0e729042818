"""Several methods on one dataset over several seeds, under equal conditions."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from equipoise.data import load_dataset
from equipoise.experiments.comparison import BASELINE, COLUMNS, ERROR, RUNS, Comparison
from equipoise.experiments.executors import Executor, Outcome, Task, make_executor
from equipoise.experiments.fairness import obstacles
from equipoise.experiments.output_folder import held_configuration, open_folder
from equipoise.experiments.statistics import rank, summarise
from equipoise.methods import METHODS, create_method
from equipoise.methods.base import warn
from equipoise.training import RunRecord, Settings, run_name, to_options
from equipoise.training.assembly import ModelSpec, build_for, build_reference, model_name, prepare_data
from equipoise.training.devices import check_device
from equipoise.training.record import CONFIG as RUN_CONFIG
from equipoise.training.record import locked, write_atomically
from equipoise.types import UsageError


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
        methods: names (`unimodal` stands for each modality alone, `all` for every method).
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
    seed_list = _checked_seeds(seeds)
    if resume:  # what the comparison held before stays in its tables
        held = held_configuration(folder)
        methods = list(dict.fromkeys([*held.get("methods", []), *methods]))
        held_seeds = seeds_of(held["seeds"], held.get("first_seed", 0)) if held else []
        seed_list = list(dict.fromkeys([*held_seeds, *seed_list]))
    names = expand(settings, methods, chosen, seed_list[0])
    runner = make_executor(executor, workers)
    tasks = _plan(settings, names, chosen, seed_list, folder, overwrite)
    done = {task.folder: Outcome(task) for task in tasks if resume and _finished(task)}
    configuration = _configuration(settings, methods, seed_list, chosen)
    open_folder(folder, configuration, resume=resume, overwrite=overwrite)
    with locked(folder):
        outcomes = _execute(runner, tasks, done, observer)
    results = _collect(outcomes, settings)
    summary = _summarise(results, outcomes, seed_list)
    comparison = Comparison(folder, results, summary)
    comparison.write()
    return comparison


def expand(
    settings: Settings, methods: Sequence[str], options: Mapping[str, Mapping[str, Any]], seed: int
) -> dict[str, str]:
    """Check methods against data and model, and return each run's name with the method it is a variant of.

    Warnings about the plan are issued here, once.
    """
    if not methods:
        raise UsageError("no method was given; expected at least one (see 'equipoise list methods').")
    check_device(settings.device)
    wanted = list(METHODS) if "all" in methods else list(dict.fromkeys(methods))
    for name in options:
        METHODS[name]
    dataset, _ = prepare_data(settings.with_method(BASELINE, {}, seed))
    spec = ModelSpec.of(dataset)
    reference = build_reference(settings, spec)
    names: dict[str, str] = {}
    for method in wanted:
        base = method.partition(":")[0]
        variants = [method] if ":" in method else METHODS[base].variants(reference.modalities)
        for variant in variants:
            built = create_method(variant, options.get(base, {}))
            built.check(build_for(built, settings, spec, reference), reference.modalities)
            for problem in built.problems(settings.budget):
                warn(problem)
            names[variant] = base
    return names


def _plan(
    settings: Settings,
    names: Mapping[str, str],
    options: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    folder: Path,
    overwrite: bool,
) -> list[Task]:
    runs = folder / RUNS
    return [
        Task(
            settings.with_method(name, options.get(base, {}), seed),
            runs / run_name(name, seed),
            runs,
            overwrite,
        )
        for seed in seeds
        for name, base in names.items()
    ]


def _execute(
    runner: Executor, tasks: Sequence[Task], done: Mapping[Path, Outcome], observer: Observer | None
) -> list[Outcome]:
    """Run what stands alone first, then what builds on finished runs; return the outcomes in task order."""
    folder = tasks[0].parts_folder
    if observer is not None:
        observer.planned(folder, tasks)
    modalities = tuple(load_dataset(tasks[0].settings.data).modalities)
    waves: dict[bool, list[Task]] = {False: [], True: []}
    outcomes = dict(done)
    for task in tasks:
        if task.folder in outcomes:
            continue
        method = create_method(task.settings.method, task.settings.method_options)
        waves[bool(method.parts(modalities))].append(task)
    for wave in waves.values():
        for outcome in runner.map(wave):
            outcomes[outcome.task.folder] = outcome
            if observer is not None:
                observer.ended(outcome)
    return [outcomes[task.folder] for task in tasks]


def _finished(task: Task) -> bool:
    """Tell whether a run needs no process, as it came to its end before.

    Raises:
        RunFolderError: the folder holds the run with other options.
    """
    record = RunRecord(task.folder)
    if not record.path(RUN_CONFIG).is_file():
        return False
    record.check_same(to_options(task.settings))
    return record.complete


def _collect(outcomes: Sequence[Outcome], settings: Settings) -> pd.DataFrame:
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
            row["val_accuracy"] = result["validation"]["accuracy"]
            row["test_accuracy"] = result["test"]["accuracy"]
            row["test_macro_f1"] = result["test"]["macro_f1"]
        else:
            row["status"] = "failed: " + " ".join(outcome.error.split())
            if outcome.details:
                outcome.task.folder.mkdir(parents=True, exist_ok=True)
                write_atomically(outcome.task.folder / ERROR, outcome.details)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _summarise(results: pd.DataFrame, outcomes: Sequence[Outcome], seeds: Sequence[int]) -> dict[str, Any]:
    methods = summarise(results, BASELINE)
    finished = [RunRecord(o.task.folder).result() for o in outcomes if o.error is None]
    reasons = obstacles(finished)
    places = {} if reasons else rank(methods)
    for method, values in methods.items():
        values["rank"] = places.get(method)
    return {
        "dataset": str(results["dataset"].iloc[0]),
        "model": str(results["model"].iloc[0]),
        "seeds": list(seeds),
        "metric": "test_accuracy",
        "ranked": not reasons,
        "not_ranked_because": reasons,
        "methods": methods,
    }


def _configuration(
    settings: Settings,
    methods: Sequence[str],
    seeds: Sequence[int],
    options: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the comparison as options of `equipoise compare`."""
    shared = to_options(settings)
    for key in ("method", "seed"):
        del shared[key]
    shared["set"] = [
        f"{method}.{name}={json.dumps(value)}"
        for method, values in options.items()
        for name, value in values.items()
    ]
    return {"methods": list(methods), **_seed_options(seeds), **shared}


def seeds_of(numbers: Sequence[int], first_seed: int = 0) -> list[int]:
    """Read seeds: one number N means `first_seed` and the N-1 that follow, several mean themselves."""
    return list(range(first_seed, first_seed + numbers[0])) if len(numbers) == 1 else list(numbers)


def _seed_options(seeds: Sequence[int]) -> dict[str, Any]:
    """Return what `seeds_of` reads as these seeds."""
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return {"seeds": [len(seeds)], "first_seed": seeds[0]}
    return {"seeds": list(seeds)}


def _checked_seeds(seeds: Iterable[int]) -> list[int]:
    values = [operator.index(seed) for seed in seeds]  # NumPy's integers too
    if not values:
        raise UsageError("no seed was given; expected at least one.")
    if len(set(values)) < len(values):
        raise UsageError(f"a seed stands twice in {values}; expected distinct seeds.")
    return values
