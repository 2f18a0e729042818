"""A finished comparison: its folder, its rows, its summary."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd
from pandas.api.types import is_numeric_dtype

from equipoise.experiments.compare.fairness import differences, obstacles
from equipoise.experiments.compare.floors import is_below, sentence
from equipoise.experiments.compare.form import SUMMARY_FORM, check_form
from equipoise.experiments.compare.significance import FEW_SEEDS
from equipoise.experiments.compare.statistics import RELATIVE, rank, summarise
from equipoise.files.csv_cells import csv_text, read_csv
from equipoise.files.untrusted import ABSENT, read_json
from equipoise.files.whole import write_atomically
from equipoise.tasks import CLASSIFICATION, Task
from equipoise.training.record.names import run_name
from equipoise.training.record.seals import changed, holds, opened, seal_of, sealed
from equipoise.types import InNotebooks, RunFolderError

BASELINE: Final = "joint"
CONFIG, RESULTS, SUMMARY, RUNS = "config.yaml", "results.csv", "summary.json", "runs"
REPORT = "report.html"
REMEDY: Final = "Write both tables again from the runs by 'equipoise compare --resume' with the same options."
COLUMNS: Final = (
    "dataset",
    "model",
    "method",
    "seed",
    "split_fingerprint",
    "init_fingerprint",
    "epochs",
    "best_epoch",
    "val_accuracy",
    "test_accuracy",
    "test_macro_f1",
    "train_seconds",
    "method_seconds",
    "forward_samples",
    "status",
)


def columns_of(task: Task) -> list[str]:
    """Return the columns of `results.csv`: those of every comparison, then the figures of other tasks."""
    if task is CLASSIFICATION:
        return list(COLUMNS)
    own = [f"{split}_{figure}" for split in ("val", "test") for figure in task.figures]
    return list(dict.fromkeys([*COLUMNS, *own]))


def figure_columns(result: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Return the columns of a run's figures."""
    found = {
        f"{short}_{figure}": result[split].get(figure)
        for short, split in (("val", "validation"), ("test", "test"))
        for figure in task.figures
    }
    known = columns_of(task)
    return {column: value for column, value in found.items() if column in known}


TESTS: Final = (
    "low",
    "high",
    "p_value",
    "p_value_holm",
    "bootstrap_low",
    "bootstrap_high",
    "wilcoxon_p",
    "wilcoxon_p_holm",
)
"""Columns of a comparison's table that say how sure the difference to joint is."""
NO_NUMBERS: Final = (
    "rank",
    f"difference_to_{BASELINE}",
    "experimental",
    "train_data",
    "floor",
    "cost",
    "options",
)
NOT_RANKED: Final = "not ranked"
"""The entry of the column of ranks if nothing may be ranked."""


TEXTS: Final = ("dataset", "model", "method", "split_fingerprint", "init_fingerprint", "status")
"""Columns of `results.csv` that are texts, also where one looks like a number."""


@dataclass(frozen=True)
class Comparison(InNotebooks):
    """What a comparison gave.

    Attributes:
        folder: of `results.csv`, `summary.json` and the runs.
        results: a row a run, the columns of `results.csv`.
        summary: what `summary.json` holds.
        elsewhere: folders of runs that are not in the subfolder `runs`, by method and seed.
    """

    shown_as = "comparison"

    folder: Path
    results: pd.DataFrame
    summary: dict[str, Any]
    elsewhere: Mapping[tuple[str, int], Path] = field(default_factory=dict)

    def run_folder(self, method: str, seed: int) -> Path:
        """Return the folder of a run."""
        return self.elsewhere.get((method, seed), self.folder / RUNS / run_name(method, seed))

    def write(self) -> None:
        """Write `results.csv` and `summary.json`, which has the seals of both."""
        write_atomically(self.folder / RESULTS, csv_text(self.results))
        held = sealed(without_nan(self.summary), {RESULTS: seal_of(self.folder / RESULTS)})
        write_atomically(self.folder / SUMMARY, json.dumps(held, indent=2) + "\n")

    @property
    def failed(self) -> int:
        """Number of runs that did not finish."""
        return int((self.results["status"] != "ok").sum())

    @property
    def ranked(self) -> bool:
        """Whether the methods may be ranked: enough seeds, equal conditions."""
        return bool(self.summary.get("ranked"))

    @property
    def enough_seeds(self) -> bool:
        """Whether a p-value of the Wilcoxon test can fall below 0.05; otherwise no table shows it."""
        return len(self.summary["seeds"]) >= FEW_SEEDS

    def table(self) -> pd.DataFrame:
        """Return one row a method: accuracy, paired difference to joint with its tests, rank and cost.

        Missing values are NaN, and NA in the column of ranks. `relative_forward`, `relative_backward` and
        `relative_seconds` are multiples of joint's samples forward, samples backward and seconds of training.
        """
        rows = [_table_row(method, values) for method, values in self.summary["methods"].items()]
        return pd.DataFrame(rows).astype({"rank": "Int64"}).set_index("method")


def _table_row(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    difference = values.get(f"difference_to_{BASELINE}") or {}
    cost = values.get("cost") or {}  # summaries of earlier versions have none
    return {
        "method": method,
        "mean": values["mean"],
        "std": values["std"],
        "n": values["n"],
        "difference": difference.get("mean", math.nan),
        **{key: difference.get(key, math.nan) for key in TESTS},
        "rank": values.get("rank"),
        "train_seconds": values["train_seconds_mean"],
        "forward_samples": values["forward_samples_mean"],
        **{key: cost.get(key, math.nan) for key in (*RELATIVE, "backward_samples", "peak_memory_bytes")},
        "experimental": bool(values.get("experimental")),
        "floor": (values.get("floor") or {}).get("mean", math.nan),
        "below_floor": is_below(values),
    }


def summary_of(
    results: pd.DataFrame,
    records: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    task: Task,
    rank_anyway: bool = False,
    tuning: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the summary of runs, given their `results` and the `result.json` of each finished one.

    Runs that differ in more than method and seed have no differences to joint. A method with a failed run is
    not ranked; the others are. With `rank_anyway` methods are ranked even if
    joint does not beat a linear model on its own inputs. `tuning` is what the summary says about the
    tuning of the methods, see `Tuned.summary`.
    """
    methods = summarise(results, BASELINE, records, task.main)
    if differences(records, budgets := tuning["budgets"] if tuning else None):
        for values in methods.values():  # a difference between unlike runs would be read as one of methods
            values[f"difference_to_{BASELINE}"] = None
    failing = set(results.loc[results["status"] != "ok", "method"]) - {BASELINE}
    whole = [record for record in records if record["method"] not in failing]
    reasons = obstacles(whole, budgets) if whole else ["every method has a run that failed"]
    despite: list[str] = []
    if is_below(baseline := methods.get(BASELINE, {})):
        why = sentence(BASELINE, baseline)
        (despite if rank_anyway else reasons).append(f"{why} (--rank-anyway ranks nevertheless)")
    compared = {method: values for method, values in methods.items() if method not in failing}
    places = {} if reasons else rank(compared)
    for method, values in methods.items():
        values["rank"] = places.get(method)
    return {
        "dataset": " and ".join(dict.fromkeys(results["dataset"])),
        "model": " and ".join(dict.fromkeys(results["model"])),
        "seeds": list(seeds),
        "metric": f"test_{task.main}",
        **({} if task is CLASSIFICATION else {"task": task.name}),
        "ranked": not reasons,
        "not_ranked_because": reasons,
        **({"ranked_despite": despite} if despite and not reasons else {}),
        **({"tuning": dict(tuning)} if tuning else {}),
        "methods": methods,
    }


def shown_name(method: str, values: Mapping[str, Any]) -> str:
    """Return a method's name for a reader, with what its row of the table says: `mla (experimental)`."""
    notes = ["experimental"] if values.get("experimental") else []
    notes += ["below its floor"] if values.get("below_floor") else []
    return f"{method} ({', '.join(notes)})" if notes else method


def read_comparison(folder: Path) -> Comparison:
    """Read a comparison from its folder.

    Raises:
        RunFolderError: there is none, or a file of it is damaged or was changed.
    """

    def refuse(found: str) -> RunFolderError:
        return RunFolderError(f"cannot read the comparison in {folder}: {found}. {REMEDY}")

    try:
        texts = dict.fromkeys(TEXTS, str)
        # A method or dataset may be called null, or NA.
        results = read_csv(folder / RESULTS, refuse, dtype=texts, keep_default_na=False, na_values=[""])
        summary = read_json(folder / SUMMARY, refuse)
    except ABSENT:
        raise RunFolderError(
            f"{folder} holds no finished comparison: {RESULTS} or {SUMMARY} is missing; expected a folder "
            "written by 'equipoise compare'."
        ) from None
    if lacking := [name for name in COLUMNS if name not in results]:
        raise refuse(f"{RESULTS} has no column {lacking[0]!r}")
    wrong = [name for name in COLUMNS if name not in TEXTS and not is_numeric_dtype(results[name])]
    if wrong:
        raise refuse(f"{RESULTS} has other entries than numbers in {wrong[0]!r}")
    check_form(summary, SUMMARY_FORM, refuse, SUMMARY)
    if lacking := sorted(set(results.loc[results["status"] == "ok", "method"]) - set(summary["methods"])):
        raise refuse(f"{SUMMARY} has no method {lacking[0]!r}")
    summary, seals = opened(summary, folder / SUMMARY, REMEDY)
    if seals is not None and not holds(folder / RESULTS, seals[RESULTS]):
        raise changed(folder / RESULTS, REMEDY)
    return Comparison(folder, results, _with_nan(summary))


def without_nan(value: Any) -> Any:
    """Return plain values for JSON, which has no NaN: what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(summary: dict[str, Any]) -> dict[str, Any]:
    for values in summary["methods"].values():
        for block in (values, *(v for v in values.values() if isinstance(v, dict))):
            for key, entry in block.items():
                if entry is None and key not in NO_NUMBERS:
                    block[key] = math.nan
    return summary
