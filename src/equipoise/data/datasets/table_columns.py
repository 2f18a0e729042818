"""The columns of a user's table: their names and kinds, and what their cells say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from equipoise.data.prepare.readers.table import NumbersReader
from equipoise.data.prepare.readers.table_file import TextFormat, texts_of
from equipoise.types import DataError, UnknownNameError, UsageError, check_known

FILE_KINDS: Final = ("frames", "flow", "image", "spectrogram", "fbank", "tokens", "array")
CELL_KINDS: Final = ("numbers", "text")
ROLES: Final = ("target", "split", "group", "id")
SPLITS: Final = {"valid": "val", "validation": "val", "dev": "val"}


def file_of(root: Path, cell: str) -> Path:
    """Return the file that a cell names; spaces around the name count only if such a file exists."""
    exact = root / Path(cell).expanduser()
    return exact if exact.exists() else root / Path(cell.strip()).expanduser()


def parsed_modality(text: str) -> tuple[str, str, str]:
    """Return name, column and kind of a modality."""
    where, equals, kind = text.rpartition("=")
    name, colon, column = where.partition(":")
    if not equals or not name or (colon and not column):
        raise UsageError(f"{text!r} is not a modality; expected NAME:COLUMN=KIND or COLUMN=KIND.")
    check_known("kind of column", [kind], (*FILE_KINDS, *CELL_KINDS))
    return name.rstrip("*") or name, column or name, kind


def column_of(table: pd.DataFrame, given: str | None, usual: str) -> str | None:
    """Return a column that was named, or by default the usual one if the table has it."""
    found = usual if usual in table.columns else None
    return found if given is None else known_column(table, given)


def filled_column(table: pd.DataFrame, column: str, source: Path) -> list[str]:
    """Return a column as texts, or raise DataError if one is empty."""
    texts = texts_of(table[known_column(table, column)])
    if "" in texts:
        raise DataError(
            f"{source}, row {texts.index('') + 1}, has an empty cell in the column {column!r}; fill it, or "
            "remove the row."
        )
    return texts


def known_column(table: pd.DataFrame, column: str) -> str:
    """Return the name of a column, or raise UnknownNameError."""
    if column not in table.columns:
        raise UnknownNameError("column of the table", column, [str(name) for name in table.columns])
    return column


def number_in(text: str, column: str, row: int, source: Path, how: TextFormat) -> float:
    """Return the number in a cell, or raise DataError."""
    found = how.numbers(text)
    if found is None:
        expected = how.expected_numbers(text)
        raise DataError(f"{source}, row {row + 1}, has {text!r} in the column {column!r}; {expected}.")
    return float(found[0])


def split_in(text: str, row: int, source: Path) -> str:
    """Return the split that a cell names, or raise DataError."""
    name = SPLITS.get(text.lower(), text.lower())
    if name not in ("train", "val", "test"):
        raise DataError(f"{source}, row {row + 1}, has the split {text!r}; expected train, val or test.")
    return name


def numbers_reader(
    table: pd.DataFrame, column: str, roles: Mapping[str, str], cells: Mapping[str, Any]
) -> NumbersReader:
    """Return the reader of a column of numbers, or of all whose names begin with those before a `*`."""
    if column.endswith("*"):
        # A wildcard also leaves out an unused column with the usual name of a role: it may hold a label.
        inputs = [str(name) for name in table.columns if name not in {*roles.values(), *ROLES}]
        columns = tuple(name for name in inputs if name.startswith(column[:-1]))
        if not columns:
            raise UnknownNameError("column of inputs", column, inputs)
    else:
        columns = (known_column(table, column),)
    how = cells["format"]

    def numbers(row: int) -> NDArray[np.float64] | None:
        cell = table.iloc[row]
        held: NDArray[np.float64] | None = how.numbers(
            cell[columns[0]] if len(columns) == 1 else [cell[name] for name in columns]
        )
        return held

    first, found = table.iloc[0], numbers(0)
    if found is not None and not np.isfinite(found).all():  # another row shows the shape of a missing cell
        others = (numbers(row) for row in range(1, len(table)))
        found = next((one for one in others if one is not None and np.isfinite(one).all()), found)
    if found is None or found.ndim > 2:
        wrong = next((cell for cell in first[list(columns)] if how.numbers(cell) is None), first[columns[0]])
        raise DataError(
            f"the column {column!r} holds {str(wrong)[:40]!r} in the first row; "
            f"{how.expected_numbers(wrong)}, or in Parquet lists of numbers of equal length."
        )
    return NumbersReader(columns, found.shape, **cells)
