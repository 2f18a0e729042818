"""Several methods on one dataset over several seeds, under equal conditions."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from equipoise.data import PreparedDataset, load_dataset, splits_of
from equipoise.experiments.comparison import BASELINE, COLUMNS, RUNS, Comparison
from equipoise.experiments.executors import Executor, Outcome, Task, make_executor
from equipoise.experiments.fairness import obstacles
from equipoise.experiments.output_folder import held_configuration, open_folder
from equipoise.experiments.statistics import rank, summarise
from equipoise.methods import METHODS, Method, base_names, create_method
from equipoise.methods.base import warn
from equipoise.methods.creation import options_for
from equipoise.models import BalancedModel
from equipoise.randomness import isolated_rng
from equipoise.training import RunRecord, Settings, run_name, to_options
from equipoise.training.assembly import ModelSpec, build_for, build_reference, model_name, prepare_data
from equipoise.training.devices import check_device
from equipoise.training.record import CONFIG as RUN_CONFIG
from equipoise.training.record import ERROR, locked, write_atomically
from equipoise.types import ModelError, UsageError

ALL, REFERENCES = "all", "references"
"""Stand for every method that the model can be trained by, and for those that all should be held against."""

DEFAULT_METHODS = (REFERENCES, "diagnose-relearn")
"""What is compared where nobody says otherwise: without its references a method proves little."""


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
    seed_list = _checked_seeds(seeds)
    if resume:  # what the comparison held before stays in its tables
        held = held_configuration(folder)
        methods = list(dict.fromkeys([*held.get("methods", []), *methods]))
        held_seeds = seeds_of(held["seeds"], held.get("first_seed", 0)) if held else []
        seed_list = list(dict.fromkeys([*held_seeds, *seed_list]))
    plan = expand(settings, methods, chosen, seed_list[0])
    runner = make_executor(executor, workers)
    tasks = _tasks(settings, plan, chosen, seed_list, folder, overwrite)
    done = {task.folder: Outcome(task) for task in tasks if resume and _finished(task, plan.data)}
    configuration = _configuration(settings, methods, seed_list, chosen)
    open_folder(folder, configuration, resume=resume, overwrite=overwrite)
    with locked(folder):
        outcomes = _execute(runner, tasks, done, observer)
    results = _collect(outcomes, settings)
    compared = {base for name in plan.parts for base in base_names(name)}
    summary = _summarise(results, outcomes, seed_list) | {
        "left_out": plan.left_out,
        "missing_references": [name for name in reference_methods() if name not in compared],
    }
    comparison = Comparison(folder, results, summary)
    comparison.write()
    return comparison


@dataclass(frozen=True)
class Plan:
    """What a comparison is made of.

    Attributes:
        parts: each run's name with the names of the runs that it builds on.
        left_out: methods that `all` stands for and the model cannot be trained by, with the reason.
        data: the dataset.
    """

    parts: dict[str, list[str]]
    left_out: dict[str, str]
    data: PreparedDataset


def expand(
    settings: Settings, methods: Sequence[str], options: Mapping[str, Mapping[str, Any]], seed: int
) -> Plan:
    """Check methods against data and model; warnings about the plan are issued here, once."""
    if not methods:
        raise UsageError("no method was given; expected at least one (see 'equipoise list methods').")
    check_device(settings.device)
    wanted, named = _wanted(methods)
    _check_options(wanted, options)
    dataset, _ = prepare_data(settings.with_method(BASELINE, {}, seed))
    reference = build_reference(settings, ModelSpec.of(dataset))
    plan = Plan({}, {}, dataset)
    for method in wanted:
        try:
            built = _checked_variants(settings, method, options, reference)
        except (UsageError, ModelError) as error:
            # A group stands for what can be run; a wrong option is no reason to leave a method out.
            if method in named or method in options:
                raise
            plan.left_out[method] = str(error)
            continue
        for name, variant in built.items():
            for problem in variant.problems(settings.budget):
                warn(problem)
            plan.parts[name] = variant.parts(reference.modalities)
    return plan


def _wanted(methods: Sequence[str]) -> tuple[list[str], set[str]]:
    """Return the methods that names and groups stand for, and those that stand there by their names."""
    references = sorted(reference_methods(), key=lambda name: name != BASELINE)
    groups = {REFERENCES: references, ALL: [*references, *METHODS]}
    named = {method for method in methods if method not in groups}
    wanted = [name for method in methods for name in groups.get(method, [method])]
    return list(dict.fromkeys(wanted)), named


def reference_methods() -> list[str]:
    """Return the methods that every comparison should include."""
    return [name for name, method in METHODS.items() if method.family == "reference"]


def _check_options(methods: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> None:
    compared = {base for method in methods for base in base_names(method)}
    for name in options:
        METHODS[name]
        if name not in compared:
            raise UsageError(
                f"an option of {name!r} is set, which is not compared; add it to the methods, or leave the "
                "option out."
            )


def _checked_variants(
    settings: Settings, method: str, options: Mapping[str, Mapping[str, Any]], reference: BalancedModel
) -> dict[str, Method]:
    kind = METHODS.get(method)
    variants = [method] if kind is None else kind.variants(reference.modalities)
    found = {}
    for variant in variants:
        found[variant] = built = create_method(variant, options_for(variant, options))
        built.check(reference)
        model = build_for(built, settings, reference)
        with isolated_rng():  # thrown away: it is asked for only to see whether it can be built
            for member in built.members():
                member.extra_modules(model, settings.budget)
    return found


def _tasks(
    settings: Settings,
    plan: Plan,
    options: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    folder: Path,
    overwrite: bool,
) -> list[Task]:
    """Return the runs, among them those that others build on, be they asked for or not."""
    runs = folder / RUNS
    unlisted = [part for parts in plan.parts.values() for part in parts if part not in plan.parts]
    return [
        Task(
            settings.with_method(name, options_for(name, options), seed),
            runs / run_name(name, seed),
            runs,
            overwrite,
            tuple(runs / run_name(part, seed) for part in plan.parts.get(name, ())),
            listed=name in plan.parts,
        )
        for seed in seeds
        for name in dict.fromkeys([*plan.parts, *unlisted])
    ]


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
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _summarise(results: pd.DataFrame, outcomes: Sequence[Outcome], seeds: Sequence[int]) -> dict[str, Any]:
    finished = [RunRecord(o.task.folder).result() for o in outcomes if o.error is None]
    methods = summarise(results, BASELINE, finished)
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
