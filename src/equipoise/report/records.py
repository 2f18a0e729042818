"""The runs of a report, read from their records; nothing here looks at a live run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from equipoise.experiments.compare.comparison import (
    COLUMNS,
    RESULTS,
    SUMMARY,
    TEXTS,
    Comparison,
    columns_of,
    figure_columns,
    read_comparison,
    summary_of,
)
from equipoise.experiments.compare.fairness import differences
from equipoise.experiments.grid.output_folder import GRID
from equipoise.experiments.grid.vary import read_grid
from equipoise.tasks import CLASSIFICATION, Task, task_named
from equipoise.training.record.events import REMEDY
from equipoise.training.record.history import read_diagnoses
from equipoise.training.record.record import CONFIG, DIAGNOSES, METRICS, RESULT, RunRecord
from equipoise.training.settings import Budget
from equipoise.types import PathError, RunFolderError, UsageError

FINISHED: Final = "ok"
BUDGET: Final = frozenset(field.name for field in fields(Budget))
COMPARISON, RUN, GRID_OF_COMPARISONS = "comparison", "run", "grid"
"""What the folders of a report hold."""


@dataclass(frozen=True)
class Run:
    """One run, read from its record.

    Attributes:
        method: name of the method, made distinct where there are runs of it with other options.
        seed: its seed.
        status: `ok`, or why it failed.
        folder: of its record.
        settings: `config.yaml`; empty where it is missing.
        result: `result.json`; empty for a run that did not finish.
        epochs: `epoch` events in order.
        states: `diagnosis` and `relearning` events in order.
        tests: how often the record says that the test split was opened.
    """

    method: str
    seed: int
    status: str
    folder: Path
    settings: Mapping[str, Any]
    result: dict[str, Any]
    epochs: Sequence[Mapping[str, Any]]
    states: Sequence[Mapping[str, Any]]
    tests: int

    @property
    def finished(self) -> bool:
        """Whether the run finished."""
        return self.status == FINISHED


def read_run(folder: Path, *, method: str | None = None) -> Run:
    """Read a finished run.

    Raises:
        RunFolderError: there is no run in the folder, it is not finished, or a file of it is damaged.
    """
    record = RunRecord(folder)
    result = record.result()
    record.check_settings()
    metrics, states = list(record.events(METRICS)), list(record.events(DIAGNOSES))
    read_diagnoses(states)  # raises where one is damaged
    if "method" not in result:
        raise RunFolderError(f"{record.path(RESULT)} has no 'method'. {REMEDY}")
    return Run(
        method=method or result["method"],
        seed=result["seed"],
        status=FINISHED,
        folder=folder,
        settings=record.options(),
        result=result,
        epochs=[event for event in metrics if event.get("event") == "epoch"],
        states=states,
        tests=sum(event.get("event") == "test" for event in metrics),
    )


def kind_of(folder: Path) -> str:
    """Return `COMPARISON` or `RUN`, also of one that is not finished: reading it says so.

    Raises:
        PathError: the folder holds neither, or a grid.
    """
    record = RunRecord(folder)
    if (folder / GRID).is_file():
        raise PathError(f"{folder} is a grid; give it alone, or the folders of its comparisons.")
    if any((folder / name).is_file() for name in (RESULTS, SUMMARY)) or record.holds_comparison:
        return COMPARISON
    if record.path(CONFIG).is_file() or record.path(RESULT).is_file():
        return RUN
    found = "holds neither a run nor a comparison" if folder.exists() else "does not exist"
    raise PathError(
        f"{folder} {found}; expected a folder written by 'equipoise train' or 'equipoise compare'."
    )


def arranged(folders: Sequence[Path]) -> tuple[list[Path], str]:
    """Return the folders of a report, each once, and what they hold; a grid has one folder.

    Raises:
        PathError: a folder holds neither a run nor a comparison.
        UsageError: no folder was given, or comparisons among runs.
    """
    if not folders:
        raise UsageError("no folder was given; expected comparisons, or one or more runs.")
    distinct = list({folder.resolve(): folder for folder in folders}.values())
    if len(distinct) == 1 and (distinct[0] / GRID).is_file():
        return distinct, GRID_OF_COMPARISONS
    comparisons = [folder for folder in distinct if kind_of(folder) == COMPARISON]
    if comparisons and len(comparisons) < len(distinct):
        raise UsageError(
            f"{comparisons[0]} is a comparison among runs; expected comparisons by themselves, or "
            "runs by themselves."
        )
    return distinct, COMPARISON if comparisons else RUN


def comparisons_of(folders: Sequence[Path]) -> dict[str, Comparison]:
    """Read comparisons, a grid, or runs, which are one comparison, by dataset or name of the cell.

    Of several comparisons on one dataset, the names are those of the folders too.

    Raises:
        RunFolderError, PathError, UsageError: see `arranged`, `gather` and `read_comparison`.
    """
    distinct, kind = arranged(folders)
    if kind == GRID_OF_COMPARISONS:
        return dict(read_grid(distinct[0]))
    found = [gather(distinct)[0]] if kind == RUN else [read_comparison(folder) for folder in distinct]
    datasets = [str(one.summary["dataset"]) for one in found]
    if len(set(datasets)) < len(datasets):
        datasets = [f"{data} ({folder})" for data, folder in zip(datasets, distinct, strict=True)]
    return dict(zip(datasets, found, strict=True))


def runs_of(comparison: Comparison) -> list[Run]:
    """Read the runs of a comparison, in the order of its results.

    Of runs that failed, or whose folder is missing, only the row of `results.csv` is known.
    """
    runs = []
    for row in comparison.results.to_dict("records"):
        method, seed, status = str(row["method"]), int(row["seed"]), str(row["status"])
        folder = comparison.run_folder(method, seed)
        if status == FINISHED and RunRecord(folder).has_result:
            runs.append(read_run(folder, method=method))
        else:
            runs.append(Run(method, seed, status, folder, {}, {}, [], [], 0))
    return runs


def comparable(runs: Sequence[Run], budgets: Mapping[str, str] | None = None) -> bool:
    """Whether differences between these runs are differences between methods; see `differences`."""
    return not differences([run.result for run in runs if run.result], budgets)


def gather(folders: Sequence[Path]) -> tuple[Comparison, list[Run]]:
    """Read different finished runs as if they were one comparison.

    Raises:
        RunFolderError: a folder holds no finished run.
        UsageError: two runs have the same method, seed and options.
    """
    runs = _distinct([read_run(folder) for folder in folders])
    tasks = {str(run.result.get("task", CLASSIFICATION.name)) for run in runs}
    if len(tasks) > 1:
        raise UsageError(
            f"the runs are of the tasks {' and '.join(sorted(tasks))}, whose figures do not fit one "
            "table; give runs of one task."
        )
    task = task_named(tasks.pop())
    results = pd.DataFrame([_row(run, task) for run in runs], columns=columns_of(task))
    held = [run.result | {"method": run.method} for run in runs]
    summary = summary_of(results, held, sorted(set(results["seed"])), task)
    elsewhere = {(run.method, run.seed): run.folder for run in runs}
    return Comparison(folders[0].parent, results, summary, elsewhere), runs


def _row(run: Run, task: Task) -> dict[str, Any]:
    own = {"method": run.method, "seed": run.seed, "status": run.status}
    texts = {key: run.result[key] for key in TEXTS if key not in own}
    return {key: run.result.get(key) for key in COLUMNS} | texts | own | figure_columns(run.result, task)


def _distinct(runs: Sequence[Run]) -> list[Run]:
    """Give runs of one method that differ in more than their seed different names."""
    named = [replace(run, method=run.method + _variant(run, runs)) for run in runs]
    seen: dict[tuple[str, int], Run] = {}
    for run in named:
        other = seen.setdefault((run.method, run.seed), run)
        if other is not run:
            raise UsageError(
                f"{other.folder} and {run.folder} both hold {run.method} with seed {run.seed}; "
                "give one of them."
            )
    return named


def _variant(run: Run, runs: Sequence[Run]) -> str:
    """Return what differs between the runs of one method, as a suffix of its name."""
    held = [_options(other) for other in runs if other.method == run.method]
    varied = [key for key in sorted(set().union(*held)) if len({_plain(own.get(key)) for own in held}) > 1]
    own = _options(run)
    return " (" + ", ".join(f"{key}={_plain(own.get(key))}" for key in varied) + ")" if varied else ""


def _options(run: Run) -> Mapping[str, Any]:
    """Return data, model, budget and options of a run."""
    budget = {name: value for name, value in run.settings.items() if name in BUDGET}
    known = {"data": run.result.get("dataset"), "model": run.result.get("model")}
    return {**known, **budget, **(run.result.get("method_options") or {})}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
