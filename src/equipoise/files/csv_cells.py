"""Cells of CSV files: those that a spreadsheet would take for a formula are written as text.

A cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe in front, unless it
is a number; reading removes it. So does one that begins with apostrophes before such a sign.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any, Final

import pandas as pd

from equipoise.files.untrusted import ABSENT, Refuse, parsing

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
_QUOTED: Final = re.compile(r"'+[=+\-@\t\r]")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def as_cell(value: Any) -> Any:
    """Return a value as it is written into a cell."""
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def from_cell(cell: Any) -> Any:
    """Return the value of a cell that was written by `as_cell`."""
    return cell[1:] if isinstance(cell, str) and _QUOTED.match(cell) else cell


def csv_text(table: pd.DataFrame, **options: Any) -> str:
    """Return a table without its index as CSV; `options` are those of `DataFrame.to_csv`."""
    texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name].dtype)]
    safe = table.assign(**{str(name): table[name].map(as_cell) for name in texts})
    texts = [as_cell(name) for name in texts]
    safe.columns = safe.columns.map(as_cell)
    # Python's writer leaves a carriage return without quotes, and readers end the row there.
    if any(safe[name].map(lambda cell: isinstance(cell, str) and "\r" in cell).any() for name in texts):
        options = {"quoting": csv.QUOTE_NONNUMERIC, **options}
    return str(safe.to_csv(index=False, lineterminator="\n", **options))


def read_csv(path: Path, refuse: Refuse, **options: Any) -> pd.DataFrame:
    """Read a table that `csv_text` has written; `options` are those of `pandas.read_csv`.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file.
        EquipoiseError: what `refuse` returns: it cannot be read, or is no table.
        MachineLimitError: see `equipoise.files.untrusted.check_machine`.
    """
    with parsing(refuse, *ABSENT):
        if path.exists() and not path.is_file():  # a link may lead to a device without an end
            raise ValueError("it is no file")
        table: pd.DataFrame = pd.read_csv(path, **options)
        texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name].dtype)]
        table = table.assign(**{name: table[name].map(from_cell) for name in texts})
        table.columns = table.columns.map(from_cell)
        return table
