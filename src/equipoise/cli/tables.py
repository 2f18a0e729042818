"""Tables in a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from equipoise.diagnosis import Diagnosis
from equipoise.experiments import Comparison

if TYPE_CHECKING:
    from equipoise.cli.comparison_table import ComparisonTable

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


def diagnosis_table(diagnosis: Diagnosis) -> Table:
    """Return the learning state of every modality."""
    rows = []
    for name, state in diagnosis.items():
        interval = f"{state.train_score - state.val_score:+.3f}"
        if state.interval:
            interval += f" [{state.interval[0]:+.3f}, {state.interval[1]:+.3f}]"
        figures = [number(state.train_score), number(state.val_score), number(state.gap)]
        rows.append(
            [name, *figures, interval, number(state.strength()), str(state.n_train), str(state.n_val)]
        )
    metric = diagnosis.options.metric
    columns = ["modality", f"{metric} train", f"{metric} val", "gap", "train - val [95 %]", "strength"]
    return make_table([*columns, "n train", "n val"], rows)


def number(value: float, form: str = ".3f") -> str:
    """Return a number in a cell; a missing one is a dash."""
    return "-" if value is None or math.isnan(value) else format(value, form)


def _is_number(text: str) -> bool:
    return (text[:1] in "+-0123456789" and any(letter.isdigit() for letter in text)) or text == "-"
