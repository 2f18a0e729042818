"""A table of methods by cases, and its text in Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from equipoise.decimals import MISSING

LATEX: Final = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{letter: f"${letter}$" for letter in "<>|"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "\N{DAGGER}": r"$^{\dagger}$",
}


@dataclass(frozen=True)
class Entry:
    """A cell: its text, and whether it is the best of its column."""

    text: str = MISSING
    best: bool = False


@dataclass(frozen=True)
class Column:
    """A column: the case it belongs to, its head, and its entries by the name of the row."""

    group: str
    head: str
    entries: Mapping[str, Entry]


@dataclass(frozen=True)
class Grid:
    """A table of methods, or other rows as `head` says, by columns that belong to cases."""

    rows: Sequence[str]
    columns: Sequence[Column]
    head: str = "method"

    def markdown(self) -> str:
        """Return the table in Markdown; the best of a column is bold."""
        several = len({column.group for column in self.columns}) > 1
        heads = [f"{c.group}: {c.head}" if several else c.head for c in self.columns]
        lines = [_line([self.head, *heads]), f"|---|{'---|' * len(heads)}"]
        for row in self.rows:
            cells = [column.entries.get(row, Entry()) for column in self.columns]
            lines.append(_line([row, *(f"**{cell.text}**" if cell.best else cell.text for cell in cells)]))
        return "\n".join(lines) + "\n"

    def latex(self, caption: str, notes: Iterable[str]) -> str:
        """Return the table in LaTeX (package booktabs); the best of a column is bold."""
        groups = list(dict.fromkeys(column.group for column in self.columns))
        spans = [sum(column.group == group for column in self.columns) for group in groups]
        over, rules, first = "", "", 2
        for group, span in zip(groups, spans, strict=True):
            over += f" & \\multicolumn{{{span}}}{{c}}{{{escaped(group)}}}"
            rules += f"\\cmidrule(lr){{{first}-{first + span - 1}}}"
            first += span
        body = []
        for row in self.rows:
            cells = [column.entries.get(row, Entry()) for column in self.columns]
            texts = [f"\\textbf{{{escaped(c.text)}}}" if c.best else escaped(c.text) for c in cells]
            body.append(" & ".join([escaped(row), *texts]) + r" \\")
        return "\n".join(
            [
                *(f"% {' '.join(note.split())}" for note in notes),
                r"\begin{table}",
                r"\centering",
                f"\\caption{{{escaped(caption)}}}",
                f"\\begin{{tabular}}{{l{'c' * len(self.columns)}}}",
                r"\toprule",
                f"{over} \\\\",
                rules,
                " & ".join([self.head, *(escaped(column.head) for column in self.columns)]) + r" \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def escaped(text: str) -> str:
    """Return a text for LaTeX."""
    return "".join(LATEX.get(letter, letter) for letter in text)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
