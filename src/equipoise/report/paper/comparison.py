"""The paper's tables: accuracy, macro F1 and gain over joint training of each method, case by case."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from equipoise.decimals import bracketed
from equipoise.experiments.compare.comparison import BASELINE, Comparison
from equipoise.experiments.compare.floors import is_below
from equipoise.experiments.paper.item import OURS
from equipoise.experiments.paper.plan import PlannedCase
from equipoise.experiments.paper.protocol import selected_on_test
from equipoise.experiments.paper.reproduce import Reproduction
from equipoise.report.paper.words import BELOW
from equipoise.report.text.grid import Column, Entry, Grid
from equipoise.report.text.wording import decimal, number

ON_TEST, AUGMENTED = "best on test (not honest)", "best on test, augmented (not honest)"


def grid(found: Reproduction) -> Grid:
    """Return the table: a row a method, and columns for each case."""
    columns: list[Column] = []
    for case in found.cases:
        columns += _columns(case, found)
    rows = dict.fromkeys(row for column in columns for row in column.entries)
    return Grid(sorted(rows, key=lambda name: name == OURS), columns)


def _columns(case: PlannedCase, found: Reproduction) -> list[Column]:
    comparison = found.comparisons[case.cell.name]
    methods: Mapping[str, Mapping[str, Any]] = comparison.summary["methods"]
    best = best_mean(comparison)
    held = [
        ("accuracy", {name: main_entry(values, best) for name, values in methods.items()}),
        ("macro F1", {name: Entry(decimal(number(v["macro_f1_mean"]), 3)) for name, v in methods.items()}),
        ("vs joint [95 %]", {name: _difference(values) for name, values in methods.items()}),
    ]
    held += [(head, _spreads(accuracies)) for head, accuracies in protocols(case, found).items()]
    return [Column(case.title, head, entries) for head, entries in held]


def best_mean(comparison: Comparison) -> float:
    """Return the best mean of the methods that are ranked, NaN where none is."""
    methods = comparison.summary["methods"].values()
    return max((number(values["mean"]) for values in methods if values["rank"] is not None), default=math.nan)


def main_entry(values: Mapping[str, Any], best: float) -> Entry:
    """Return the mean of a method with its deviation, in bold where it is the best of those with a rank."""
    mean = number(values["mean"])
    text = spread(mean, number(values["std"]))
    bold = values["rank"] is not None and mean == best
    return Entry(f"{text} {BELOW}" if is_below(values) else text, bold)


def spread(mean: float, std: float) -> str:
    """Return a mean with its standard deviation, if there is one."""
    own = f" \N{PLUS-MINUS SIGN} {decimal(std, 3)}" if math.isfinite(std) else ""
    return decimal(mean, 3) + own


def _difference(values: Mapping[str, Any]) -> Entry:
    block = values.get(f"difference_to_{BASELINE}")
    if not block:
        return Entry()
    return Entry(difference(*(number(block[key]) for key in ("mean", "low", "high"))))


def difference(mean: float, low: float, high: float) -> str:
    """Return a difference with its interval, if there is one."""
    interval = bracketed((low, high), signed=True) if math.isfinite(low) and math.isfinite(high) else ""
    return decimal(mean, 3, signed=True) + interval.replace("-", "\N{MINUS SIGN}")


def _spreads(found: Mapping[str, Sequence[float]]) -> dict[str, Entry]:
    return {
        method: Entry(
            spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan)
        )
        for method, values in found.items()
    }


def protocols(case: PlannedCase, found: Reproduction) -> dict[str, Mapping[str, Sequence[float]]]:
    """Return, by head of column, the test accuracies of epochs selected on test, by method and seed.

    There are none unless the original protocol is shown.
    """
    if not found.choices.original:
        return {}
    own = selected_on_test(found.comparisons[case.cell.name])
    if case.augmented is None:
        return {ON_TEST: own}
    others = selected_on_test(found.comparisons[case.augmented.name])
    return {ON_TEST: own, AUGMENTED: others | ({OURS: own[OURS]} if OURS in own else {})}


def frame(found: Reproduction) -> pd.DataFrame:
    """Return the numbers of the table, one row a case and method, for CSV."""
    rows = []
    for case in found.cases:
        comparison = found.comparisons[case.cell.name]
        shown = protocols(case, found)
        for method, values in comparison.table().iterrows():
            row = {"case": case.title, "method": method, **{str(k): v for k, v in values.items()}}
            row["macro_f1"] = comparison.summary["methods"][method]["macro_f1_mean"]
            row["ranked"] = comparison.ranked
            for head, accuracies in shown.items():
                own = accuracies.get(str(method))
                row[head] = statistics.fmean(own) if own else math.nan
            rows.append(row)
    return pd.DataFrame(rows)
