"""The table at the end of a comparison, in as many columns as the terminal has room for."""

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

from equipoise.cli.tables import make_table, number
from equipoise.decimals import bracketed
from equipoise.experiments.compare.comparison import NOT_RANKED, Comparison, shown_name
from equipoise.experiments.compare.significance import smallest_wilcoxon_p
from equipoise.tasks import CLASSIFICATION, task_named

MEGABYTE: Final = 1e6
FIGURE: Final = "test accuracy"
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


def _rows(comparison: Comparison) -> list[dict[str, str]]:
    table = comparison.table().sort_values("mean", ascending=False, kind="stable", na_position="last")
    return [
        _cells(str(row["method"]), {str(key): value for key, value in row.items()}, comparison.ranked)
        for row in table.reset_index().to_dict("records")
    ]


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
