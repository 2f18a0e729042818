"""Read a table, and its cells as numbers, texts or names of array files."""

from __future__ import annotations

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from equipoise.data.format.folder import check_file
from equipoise.data.format.modality import Layout
from equipoise.data.prepare.clips import Clip, ModalityReader
from equipoise.data.prepare.media.files import MediaError, check_media
from equipoise.data.prepare.readers.text import UTF8, TokensReader
from equipoise.types import DataError, MissingExtraError, PathError, UsageError

PARQUET: Final = (".parquet", ".pq")
SEPARATORS: Final = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
TABLE: Final = "table"
"""Role of the table itself among the files of a clip."""


@dataclass(frozen=True)
class TextFormat:
    """How a text file is read.

    Attributes:
        encoding: a text encoding that Python knows.
        separator: of the cells of a table; None takes that of the ending.

    Raises:
        UsageError: the encoding does not exist, or the separator is not one character.
    """

    encoding: str = UTF8
    separator: str | None = None

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


def read_table(path: Path, text: TextFormat | None = None) -> pd.DataFrame:
    """Read a table with one row for each sample: `.csv`, `.tsv` (every cell is a text) or `.parquet`.

    Raises:
        PathError: there is no such file, or it has another ending.
        DataError: it is empty, damaged, or has another encoding or separator.
        MissingExtraError: it is Parquet and pyarrow is not installed.
    """
    expected = f"a table: {', '.join((*SEPARATORS, *PARQUET))}"
    check_file(path, expected)
    check_media(path)
    kind, text = path.suffix.lower(), text or TextFormat()
    if kind not in (*SEPARATORS, *PARQUET):
        raise PathError(f"{path} is not a readable table; expected {expected}.")
    try:
        table = pd.read_parquet(path) if kind in PARQUET else _text_table(path, text)
    except ImportError:
        raise MissingExtraError("pyarrow", "table", "reading Parquet") from None
    except UnicodeError as error:
        hint = f", perhaps {_likely_encoding(path)}" if text.encoding == UTF8 else ""
        raise DataError(
            f"{path} is not text in the encoding {text.encoding.removesuffix('-sig')!r} ({error.args[-1]}); "
            f"name its encoding with --encoding{hint}, or save it as UTF-8."
        ) from None
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path} cannot be read ({reason}); save it again as {kind[1:]}, or name its --separator."
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
    return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding=text.encoding)


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
    return [_text(cell).strip() for cell in cells]


def _text(cell: Any) -> str:
    """Return a cell of text; a missing one, as None in Parquet, is empty and not the word None."""
    return "" if pd.api.types.is_scalar(cell) and pd.isna(cell) else str(cell)


@lru_cache(maxsize=2)
def _cells(path: Path, _changed: int, id_column: str | None, text: TextFormat) -> pd.DataFrame:
    """Return the table by id; each process reads it once, and again after the file has changed."""
    table = read_table(path, text)
    ids = table.index.astype(str) if id_column is None else texts_of(table[id_column])
    return table.set_index(pd.Index(ids))


def _row(clip: Clip, id_column: str | None, text: TextFormat) -> Any:
    path = clip.files[TABLE]
    return _cells(path, path.stat().st_mtime_ns, id_column, text).loc[clip.id]


@dataclass(frozen=True)
class NumbersReader(ModalityReader):
    """Numbers in the cells of a table.

    Attributes:
        columns: the columns in order, or one whose cells are lists (Parquet).
        shape: of a sample.
        id_column: column of ids; None if ids are row numbers.
        format: of the table.
    """

    columns: tuple[str, ...]
    shape: tuple[int, ...]
    id_column: str | None = None
    format: TextFormat = TextFormat()

    @property
    def layout(self) -> Layout:
        """A vector [d], or a sequence [T, d] from nested lists."""
        return Layout(self.shape, "float32", "vector" if len(self.shape) == 1 else "sequence")

    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the numbers."""
        row = _row(clip, self.id_column, self.format)
        values = row[self.columns[0]] if len(self.columns) == 1 else [row[name] for name in self.columns]
        found = numbers_of(values)
        if found is None or found.shape != self.shape or not np.isfinite(found).all():
            shape = "no numbers" if found is None else f"numbers of shape {list(found.shape)}"
            raise MediaError(
                clip.files[TABLE],
                "unreadable",
                f"holds {shape} for {clip.id!r} in {', '.join(self.columns[:3])}",
                f"expected {list(self.shape)} finite numbers, as in the first row",
            )
        return found.astype(np.float32)


def numbers_of(values: Any) -> NDArray[np.float64] | None:
    """Return cells as an array of at least one axis, or None if they are ragged or not numbers."""
    try:
        nested = [list(one) if isinstance(one, np.ndarray) else one for one in np.atleast_1d(values)]
        return np.array(nested, dtype=np.float64)
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True)
class CellTextReader(TokensReader):
    """Texts in the cells of a table, as tokens.

    Attributes:
        role: the column.
        id_column: column of ids; None if ids are row numbers.
        format: of the table.
    """

    id_column: str | None = None
    format: TextFormat = TextFormat()

    def text(self, clip: Clip) -> str:
        """Return the text of a sample."""
        return _text(_row(clip, self.id_column, self.format)[self.role])

    def read(self, clip: Clip) -> NDArray[np.int32]:
        """Return the tokens of a sample."""
        within = Clip(clip.id, clip.label, {**clip.files, self.role: clip.files[TABLE]})
        return super().read(within)


@dataclass(frozen=True)
class ArrayFileReader(ModalityReader):
    """Arrays in `.npy` files of equal shape.

    Attributes:
        role: the column with the file names.
        shape: of a sample.
        dtype: type in which they are stored; it holds the numbers of all files.
        kind: of the modality.
    """

    role: str
    shape: tuple[int, ...]
    dtype: str
    kind: str

    @property
    def layout(self) -> Layout:
        """The layout of every file."""
        return Layout(self.shape, self.dtype, self.kind)

    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the array."""
        found = array_in(clip.files[self.role])
        if found.shape != self.shape:
            raise MediaError(
                clip.files[self.role],
                "wrong-format",
                f"holds an array of shape {list(found.shape)}",
                f"expected {list(self.shape)}, as in the first array: pad or crop it",
            )
        return found.astype(self.dtype)


def array_in(path: Path, mapped: bool = False) -> NDArray[Any]:
    """Read a `.npy` file of numbers, or map it into memory, or raise MediaError."""
    check_media(path)
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise MediaError(
            path, "wrong-format", f"is not an array ({reason})", "write it with numpy.save"
        ) from error
    numbers = isinstance(found, np.ndarray) and found.dtype.kind in "biuf" and found.itemsize <= 8
    if not numbers or not 1 <= found.ndim <= 4:
        raise MediaError(
            path,
            "wrong-format",
            "holds no numbers, up to 64 bits each, of one to four axes",
            "write it with numpy.save",
        )
    return found
