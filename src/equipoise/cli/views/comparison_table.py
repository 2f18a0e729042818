"""What is printed at the end of a comparison or a grid, in as many columns as the terminal has room for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from equipoise.cli.tables import make_table, number, print_prose
from equipoise.cli.views.tuning_table import print_tuning_of
from equipoise.decimals import bracketed
from equipoise.experiments.compare.comparison import NOT_RANKED, Comparison, shown_name
from equipoise.experiments.compare.floors import marked
from equipoise.experiments.compare.significance import smallest_wilcoxon_p
from equipoise.tasks import CLASSIFICATION, task_named

MEGABYTE: Final = 1e6
FIGURE: Final = "test accuracy"
VALIDATION: Final = "validation"
WILCOXON: Final = "Wilcoxon p (Holm)"
COLUMNS: Final = {
    "method": "method",
    FIGURE: "acc.",
    "std": "std",
    "seeds": "n",
    "vs joint": "diff.",
    "95 % interval": "95 % interval",
    WILCOXON: "p",
    "rank": "rank",
    "forward x joint": "fwd",
    "backward x joint": "bwd",
    "seconds": "s",
    "memory MB": "MB",
}
"""Head of each column, and its short form for a narrow terminal."""
NAME: Final = 27
"""Letters of a method's name on one line of a narrow terminal; `unimodal:accelerometer` has 22."""
DISPENSABLE: Final = ("memory MB", "backward x joint", "std", "seconds", "seeds", "forward x joint")
"""Columns left out, in this order, where a terminal is too narrow for the short heads."""


@dataclass(frozen=True)
class ComparisonTable:
    """Methods with accuracy, difference to joint and cost, best mean first, as wide as the console allows."""

    comparison: Comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the widest table that fits, and what its columns mean."""
        yield self._fitting(console, options)
        yield Text(f"\n{self._note()}", style="dim")

    def _fitting(self, console: Console, options: ConsoleOptions) -> Table:
        rows, named = _rows(self.comparison), _heads(self.comparison)
        heads = [head for head in COLUMNS if head != WILCOXON or self.comparison.enough_seeds]
        layouts = [(heads, False, 2), (heads, True, 2), (heads, True, 1)]
        for dispensable in DISPENSABLE:
            heads = [head for head in heads if head != dispensable]
            layouts.append((heads, True, 1))
        for shown, short, gap in layouts:
            table = _table(rows, shown, named, short=short, gap=gap)
            if _width(table, console, options) <= options.max_width:
                break
        return table

    def _note(self) -> str:
        note = (
            "forward (fwd) and backward (bwd): samples, relative to joint. seconds (s): of training. MB: "
            "peak memory."
        )
        if self.comparison.enough_seeds:
            return f"p: Wilcoxon signed-rank over seeds, Holm-corrected for all methods. {note}"
        seeds = len(self.comparison.summary["seeds"])
        return (
            f"{note} With {seeds} seed{'s' * (seeds > 1)} Wilcoxon's p is left out: it cannot fall below "
            f"{smallest_wilcoxon_p(seeds):g}."
        )


def print_grid(console: Console, found: Mapping[str, Comparison]) -> None:
    """Print the methods of each cell of a grid, best mean first, and why some are not ranked."""
    named = dict.fromkeys(_heads(comparison)[FIGURE][0] for comparison in found.values())
    heads = {"method": "method", VALIDATION: VALIDATION, FIGURE: " or ".join(named), "std": "std"}
    heads |= {"seeds": "n", "vs joint": "vs joint", "rank": "rank"}
    lines: list[list[str]] = []
    reasons: dict[str, list[str]] = {}
    for name, comparison in found.items():
        for place, row in enumerate(_rows(comparison)):
            lines.append(["" if place else name, *(row[head] for head in heads)])
        for reason in comparison.summary["not_ranked_because"]:
            reasons.setdefault(reason, []).append(name)
    table = make_table(["", *heads.values()], lines)
    for column in table.columns[2:]:
        column.no_wrap = True
    console.print(table)
    for reason, names in reasons.items():
        print_prose(
            console, f"\nnot ranked: {reason} ({'all' if len(names) == len(found) else '; '.join(names)})"
        )


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the table of a comparison, and what must be known with it."""
    summary = comparison.summary
    epochs = comparison.results["epochs"].iloc[0]
    print_prose(console, f"{summary['dataset']}, {summary['model']}, {epochs} epochs\n")
    console.print(ComparisonTable(comparison))
    if summary["not_ranked_because"]:
        print_prose(console, f"\nnot ranked: {'; '.join(summary['not_ranked_because'])}")
    for method, figures in marked(summary["methods"]).items():
        print_prose(console, f"below its floor, a linear model on its inputs: {method}, {figures}")
    if tuning := summary.get("tuning"):
        print_tuning_of(console, tuning)
    for method, reason in summary.get("left_out", {}).items():
        print_prose(console, f"left out {method}: {reason}")
    if missing := summary.get("missing_references"):
        print_prose(console, f"not compared with {', '.join(missing)} (--methods references ...)")


def _rows(comparison: Comparison) -> list[dict[str, str]]:
    table = comparison.table().sort_values("mean", ascending=False, kind="stable", na_position="last")
    rows = []
    for row in table.reset_index().to_dict("records"):
        method = str(row["method"])
        cells = _cells(method, {str(key): value for key, value in row.items()}, comparison.ranked)
        on_validation = comparison.summary["methods"][method].get("validation_mean", math.nan)
        rows.append(cells | {VALIDATION: number(on_validation)})
    return rows


def _cells(method: str, row: Mapping[str, Any], ranked: bool) -> dict[str, str]:
    interval = "" if math.isnan(row["low"]) else bracketed((row["low"], row["high"]), signed=True)
    place = "-" if pd.isna(row["rank"]) else str(row["rank"])
    cells = [
        shown_name(method, row),
        number(row["mean"]),
        number(row["std"]),
        str(int(row["n"])),
        number(row["difference"], "+.3f"),
        interval.strip(),
        number(row["wilcoxon_p_holm"]),
        place if ranked else NOT_RANKED,
        _multiple(row["relative_forward"]),
        _multiple(row["relative_backward"]),
        number(row["train_seconds"], ".1f" if row["train_seconds"] < 1000 else ".0f"),
        number(row["peak_memory_bytes"] / MEGABYTE, ".0f"),
    ]
    return dict(zip(COLUMNS, cells, strict=True))


def _multiple(value: float) -> str:
    return number(value, ".2f" if value < 10 else ".1f")


def _heads(comparison: Comparison) -> dict[str, tuple[str, str]]:
    """Return the long and the short head of each column; the figure depends on the task of the data."""
    named = {head: (head, short) for head, short in COLUMNS.items()}
    task = task_named(str(comparison.summary.get("task", CLASSIFICATION.name)))
    if task is not CLASSIFICATION:
        named[FIGURE] = (f"test {task.main_name}", task.main)
    return named


def _table(
    rows: Sequence[Mapping[str, str]],
    heads: Sequence[str],
    named: Mapping[str, tuple[str, str]],
    *,
    short: bool,
    gap: int,
) -> Table:
    shown = [named[head][short] for head in heads]
    table = make_table(shown, [[row[head] for head in heads] for row in rows])
    table.padding = (0, gap, 0, 0)
    if short:
        table.columns[0].max_width = NAME
    for column in table.columns[1:]:
        column.no_wrap = True  # a number on two lines cannot be read
    return table


def _width(table: Table, console: Console, options: ConsoleOptions) -> int:
    return Measurement.get(console, options.update(max_width=10_000), table).maximum
