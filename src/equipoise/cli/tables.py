"""Tables in a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from equipoise.cli.comparison_table import ComparisonTable
    from equipoise.experiments.compare.comparison import Comparison
    from equipoise.experiments.examine.examination import Examination

WIDE = 200
"""Columns where the output goes into a file or pipe, so that no cell is cut."""


def output_console() -> Console:
    """Return the console of results."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def progress_console() -> Console:
    """Return the console of progress and messages."""
    return Console(stderr=True, highlight=False)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    """Return a table of plain texts; numbers are set to the right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    body = [list(row) for row in rows]
    for place, column in enumerate(columns):
        numeric = bool(body) and all(_is_number(row[place]) for row in body)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in body:
        # Text, because names from users must not be read as markup.
        table.add_row(*(Text(cell) for cell in row))
    return table


def comparison_table(comparison: Comparison) -> ComparisonTable:
    """Return the table at the end of a comparison."""
    from equipoise.cli.comparison_table import ComparisonTable

    return ComparisonTable(comparison)


def examination_tables(found: Examination) -> list[Table]:
    """Return verdict and learning state of every modality, and what each contributes."""
    columns = ["modality", "verdict"]
    states = []
    for name, state in found.learning.items():
        verdict = found.verdicts[name]
        states.append(
            [
                name,
                verdict.state + ("" if verdict.certain else " (close)"),
                number(state.train_score),
                number(state.val_score),
                _with_interval(state.train_score - state.val_score, state.interval),
                number(state.strength() if math.isfinite(state.gap) else math.nan),
            ]
        )
    metric = found.learning.options.metric
    columns += [f"{metric} train", f"{metric} val", "gap [95 %]", "strength"]
    own, rows = found.contributions, []
    for name, item in own.items():
        refitted = (own.refitted or {}).get(name, math.nan)
        drop = _with_interval(item.drop_averaged, item.intervals.get("drop_averaged"))
        shapley = _with_interval(item.shapley, item.intervals.get("shapley"))
        rows.append([name, number(refitted), number(item.alone), drop, shapley])
    title = (
        f"contribution to the {found.through}'s {own.metric} on {own.split}: {number(own.score)}, "
        f"chance {number(own.chance)}"
    )
    heads = ["modality", "new head alone", "alone", "drop without [95 %]", "Shapley value [95 %]"]
    return [make_table(columns, states), make_table(heads, rows, title)]


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return f"{value:+.3f}"
    return f"{value:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"


def number(value: float, form: str = ".3f") -> str:
    """Return a number in a cell; a missing one is a dash."""
    return "-" if value is None or math.isnan(value) else format(value, form)


def _is_number(text: str) -> bool:
    return (text[:1] in "+-0123456789" and any(letter.isdigit() for letter in text)) or text == "-"
