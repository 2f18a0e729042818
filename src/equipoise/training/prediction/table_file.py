"""A table of predictions as a file, CSV or Parquet by its ending."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pandas as pd

from equipoise.files.csv_cells import csv_text
from equipoise.files.whole import replaced, room_for
from equipoise.types import MissingExtraError, UsageError

CSV, PARQUET = ".csv", ".parquet"
ENDINGS: Final = (CSV, PARQUET)


def check_table_file(path: Path) -> None:
    """Check that a table can be written in the format of this file, before any work.

    Raises:
        UsageError: the ending names no format.
        MissingExtraError: Parquet needs a package that is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"{path} is to hold a table; expected FILE{' or FILE'.join(ENDINGS)}.")
    if path.suffix.lower() == PARQUET and find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "table", "writing Parquet")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table, whole or not at all; cells of CSV that look like a formula are texts."""
    check_table_file(path)
    with room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as partial:
        if path.suffix.lower() == CSV:
            partial.write_text(csv_text(table), encoding="utf-8")
        else:
            table.to_parquet(partial, index=False)
