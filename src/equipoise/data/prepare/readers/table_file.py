"""Read a table from a file, and its cells as numbers and texts."""

from __future__ import annotations

import csv
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from equipoise.data.format.folder import check_file
from equipoise.data.prepare.media.files import check_media
from equipoise.data.prepare.readers.parquet import read_parquet
from equipoise.data.prepare.readers.text import UTF8
from equipoise.files.extras import needing
from equipoise.files.limits import check_machine
from equipoise.files.untrusted import first_line
from equipoise.types import DataError, EquipoiseError, PathError, UsageError

PARQUET: Final = (".parquet", ".pq")
SEPARATORS: Final = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
POINT, COMMA = ".", ","


@dataclass(frozen=True)
class TextFormat:
    """How a text file is read.

    Attributes:
        encoding: a text encoding that Python knows.
        separator: of the cells of a table; None takes that of the ending.
        decimal: mark in numbers, a point or a comma.

    Raises:
        UsageError: the encoding does not exist, the separator is not one character, or the mark is another.
    """

    encoding: str = UTF8
    separator: str | None = None
    decimal: str = POINT

    def __post_init__(self) -> None:
        try:
            "x".encode(self.encoding)  # an empty text is converted without a look at the encoding
        except LookupError:
            raise UsageError(
                f"encoding is {self.encoding!r}, which Python does not know; expected utf-8, utf-16, "
                "latin-1, cp1252, ..."
            ) from None
        if self.separator is not None and len(self.separator) != 1:
            raise UsageError(f"separator is {self.separator!r}; expected one character, or 'tab'.")
        if self.decimal not in (POINT, COMMA):
            raise UsageError(f"decimal is {self.decimal!r}; expected '.' or ','.")

    def numbers(self, values: Any) -> NDArray[np.float64] | None:
        """Return cells as an array of at least one axis, or None if they are ragged or not numbers.

        With a decimal comma, a point is no part of a number: it could only separate thousands.
        """
        marks = str.maketrans({COMMA: POINT, POINT: COMMA} if self.decimal == COMMA else {})
        try:
            cells = [one.translate(marks) if isinstance(one, str) else one for one in np.atleast_1d(values)]
            nested = [list(one) if isinstance(one, np.ndarray) else one for one in cells]
            return np.array(nested, dtype=np.float64)
        except (TypeError, ValueError):
            return None

    def expected_numbers(self, cell: Any) -> str:
        """Return what is expected instead of a cell that is no number."""
        text = str(cell).strip()
        if not re.fullmatch(r"[+-]?[\d.,]*\d", text):
            return "expected numbers"
        other = COMMA if self.decimal == POINT else POINT
        one_mark = text.count(other) == 1 and self.decimal not in text
        hint = f"; --decimal '{other}' reads it as decimal mark" if one_mark else ""
        return f"expected numbers with the decimal mark {self.decimal!r} and none between thousands{hint}"


USUAL: Final = TextFormat()


def read_table(path: Path, text: TextFormat = USUAL) -> pd.DataFrame:
    """Read a table with one row for each sample: `.csv`, `.tsv` (every cell is a text) or `.parquet`.

    Raises:
        PathError: there is no such file, or it has another ending.
        DataError: it is empty, damaged, or has another encoding or separator.
        MissingExtraError: it is Parquet and pyarrow is not installed.
    """
    expected = f"a table: {', '.join((*SEPARATORS, *PARQUET))}"
    check_file(path, expected)
    check_media(path)
    kind = path.suffix.lower()
    if kind not in (*SEPARATORS, *PARQUET):
        raise PathError(f"{path} is not a readable table; expected {expected}.")
    if kind in PARQUET:
        with needing("pyarrow", "table", "reading Parquet"):
            import pyarrow.parquet  # noqa: F401  pandas calls it missing, whatever is wrong with it
    try:
        table = read_parquet(path) if kind in PARQUET else _text_table(path, text)
        if table.index.name is None:  # what pandas keeps of numbers of rows says nothing, and may repeat
            table = table.reset_index(drop=True)
    except UnicodeError as error:
        hint = f", perhaps {_likely_encoding(path)}" if text.encoding == UTF8 else ""
        raise DataError(
            f"{path} is not text in the encoding {text.encoding.removesuffix('-sig')!r} ({error.args[-1]}); "
            f"name its encoding with --encoding{hint}, or save it as UTF-8."
        ) from None
    except EquipoiseError:
        raise
    except Exception as error:  # pandas and pyarrow have any kind for a damaged file
        check_machine(error)
        remedy = "" if kind in PARQUET else ", or name its --separator"
        raise DataError(
            f"{path} cannot be read ({first_line(error)}); save it again as {kind[1:]}{remedy}."
        ) from error
    if kind not in PARQUET and len(table.columns) == 1:
        _check_separator(path, str(table.columns[0]), text.separator or SEPARATORS[kind])
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    if twice := sorted(set(table.columns[table.columns.duplicated()])):
        raise DataError(f"{path} has two columns {twice[0]!r}; rename one of them.")
    if table.empty:
        raise DataError(f"{path} has no rows; expected one for each sample.")
    return table


def _text_table(path: Path, text: TextFormat) -> pd.DataFrame:
    with path.open("rb") as file:
        if b"\0" in file.read(4096) and text.encoding == UTF8:  # valid UTF-8, but of no table
            raise UnicodeError("zero bytes")
    separator = text.separator or SEPARATORS[path.suffix.lower()]
    _check_fields(path, text.encoding, separator)
    return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding=text.encoding)


def _check_fields(path: Path, encoding: str, separator: str) -> None:
    """Check that every row has a cell for each name: pandas shifts the columns, or fills them up.

    Raises:
        DataError: names the file and the line.
    """
    limit = csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding=encoding, newline="") as file:
            rows = csv.reader(file, delimiter=separator)
            names = next((row for row in rows if row), [])
            if len(names) == 1:
                _check_separator(path, names[0], separator)
            if twice := [name for name in names if name.strip() and names.count(name) > 1]:
                raise DataError(f"{path} has two columns {twice[0].strip()!r}; rename one of them.")
            for row in rows:
                if len(row) != len(names) and any(cell.strip() for cell in row):
                    raise DataError(
                        f"{path}, line {rows.line_num}, has {len(row)} cells, and the header names "
                        f"{len(names)} columns; write one cell each, in quotes where it holds {separator!r}."
                    )
    finally:
        csv.field_size_limit(limit)


def _likely_encoding(path: Path) -> str:
    """Guess the encoding of a text that is not UTF-8; UTF-16 begins with a mark, or has zero bytes."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:2] in (BOM_UTF16_LE, BOM_UTF16_BE):
        return "utf-16"
    return ("utf-16-be" if head[:1] == b"\0" else "utf-16-le") if b"\0" in head else "latin-1"


def _check_separator(path: Path, header: str, separator: str) -> None:
    """Raise DataError if the only column of a table looks like several."""
    names = {"\t": "tab", ";": "';'", "|": "'|'", ",": ","}
    likely = next((one for one in names if one in header), None)
    if likely is not None:
        raise DataError(
            f"{path} has only one column, {header[:80]!r}, with the separator {separator!r}; name its "
            f"separator: --separator {names[likely]}."
        )


def texts_of(cells: pd.Series[Any]) -> list[str]:
    """Return cells as texts without spaces around them; a missing one is empty."""
    return [cell_text(cell).strip() for cell in cells]


def cell_text(cell: Any) -> str:
    """Return a cell of text; a missing one, as None in Parquet, is empty and not the word None."""
    return "" if pd.api.types.is_scalar(cell) and pd.isna(cell) else str(cell)
