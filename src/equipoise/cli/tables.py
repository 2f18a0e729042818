"""Tables in a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from equipoise.decimals import MINUS, MISSING
from equipoise.files.printable import printable

if TYPE_CHECKING:
    from equipoise.report.text.tables import Table as PageTable

WIDE = 200
"""Columns where the output goes to a file or pipe, so that no cell is cut."""


class PlainConsole(Console):
    """A console to which names from users are texts: it prints their control characters as escapes.

    All output of the commands goes through one, apart from messages, see `equipoise.files.printable.say`.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the pieces of what is printed; those of the console's own control are no texts."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


def output_console() -> Console:
    """Return the console of results."""
    console = PlainConsole(highlight=False, soft_wrap=False)
    return console if console.is_terminal else PlainConsole(highlight=False, width=WIDE)


def progress_console() -> Console:
    """Return the console of progress and messages."""
    return PlainConsole(stderr=True, highlight=False)


def print_plain(console: Console, text: object) -> None:
    """Print a text as it is: names from users are no markup, and long lines are not broken."""
    console.print(printable(str(text)), markup=False, soft_wrap=True)


def print_prose(console: Console, text: str, indent: int = 0) -> None:
    """Print sentences; a terminal breaks their lines between words."""
    if console.is_terminal:
        console.print(Padding(Text(printable(text), overflow="fold"), (0, 0, 0, indent)))
    else:
        print_plain(console, " " * indent + text)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    """Return a table of plain texts; numbers are aligned to the right."""
    head = None if title is None else Text(printable(title))
    table = Table(title=head, title_justify="left", box=None, pad_edge=False, header_style="bold")
    body = [list(row) for row in rows]
    for place, column in enumerate(columns):
        numeric = bool(body) and all(_is_number(row[place]) for row in body)
        table.add_column(Text(printable(column)), justify="right" if numeric else "left", overflow="fold")
    for row in body:
        # Text, because names from users must not be read as markup.
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def listed(columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> RenderableType:
    """Return a table, or, where a terminal is too narrow for it, each row as a heading and a line a fact."""
    pairs = [list(column) for column in zip(columns, *rows, strict=True)]
    words = sum(max(map(_longest_word, column)) + 2 for column in pairs)
    cells = sum(max(map(len, column)) + 2 for column in pairs)
    if not console.is_terminal or (words <= console.width and cells <= 1.75 * console.width):
        return make_table(columns, rows)
    blocks: list[RenderableType] = []
    for name, *own in rows:
        lines = Table.grid(padding=(0, 2), pad_edge=False)
        lines.add_column(no_wrap=True)
        lines.add_column(overflow="fold")
        for column, cell in zip(columns[1:], own, strict=True):
            if cell:
                lines.add_row(Text(f"  {printable(column)}"), Text(printable(cell)))
        blocks += [Text(printable(name), style="bold"), lines]
    return Group(*blocks)


def turned(table: PageTable) -> Iterator[Table]:
    """Yield a table of a page with its rows as columns, a few at a time, so that 80 columns hold it."""
    heads = [place for place in range(1, len(table.columns)) if place not in table.words]
    for first in range(0, len(table.rows), 3):
        rows, lines = table.rows[first : first + 3], []
        for place in heads:
            cells = [row[place] for row in rows]
            lines.append([table.columns[place], *(cell.text for cell in cells)])
            if any(cell.note for cell in cells):
                lines.append(["  95 % interval", *(cell.note or MISSING for cell in cells)])
        signs = str.maketrans({MINUS: "-", MISSING: "-"})
        plain = [[cell.translate(signs) for cell in line] for line in lines]
        yield make_table([table.columns[0], *(row[0].text for row in rows)], plain)


def number(value: float, form: str = ".3f") -> str:
    """Return a number in a cell; a missing one is a dash, and zero has no minus sign."""
    if value is None or math.isnan(value):
        return "-"
    text = format(value, form)
    return format(0.0, form) if float(text) == 0 else text


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _is_number(text: str) -> bool:
    return (text[:1] in "+-0123456789" and any(letter.isdigit() for letter in text)) or text == "-"
