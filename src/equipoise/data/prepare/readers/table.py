"""Read the cells of a table as numbers, texts or names of array files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from equipoise.data.format.modality import KIND_AXES, Layout
from equipoise.data.prepare.clips import Clip, ModalityReader
from equipoise.data.prepare.media.files import MediaError, check_media
from equipoise.data.prepare.readers.table_file import USUAL, TextFormat, cell_text, read_table, texts_of
from equipoise.data.prepare.readers.text import TokensReader
from equipoise.files.arrays import read_array

TABLE: Final = "table"
"""Role of the table itself among the files of a clip."""


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
    format: TextFormat = USUAL

    @property
    def layout(self) -> Layout:
        """A vector [d], or a sequence [T, d] from nested lists."""
        return Layout(self.shape, "float32", "vector" if len(self.shape) == 1 else "sequence")

    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the numbers."""
        row = _row(clip, self.id_column, self.format)
        values = row[self.columns[0]] if len(self.columns) == 1 else [row[name] for name in self.columns]
        found = self.format.numbers(values)
        if found is None or found.shape != self.shape or not np.isfinite(found).all():
            shape = "no numbers" if found is None else f"numbers of shape {list(found.shape)}"
            raise MediaError(
                clip.files[TABLE],
                "unreadable",
                f"holds {shape} for {clip.id!r} in {', '.join(self.columns[:3])}",
                f"expected {list(self.shape)} finite numbers, as in the first row",
            )
        return found.astype(np.float32)


@dataclass(frozen=True)
class CellTextReader(TokensReader):
    """Texts in the cells of a table, as tokens.

    Attributes:
        role: the column.
        id_column: column of ids; None if ids are row numbers.
        format: of the table.
    """

    id_column: str | None = None
    format: TextFormat = USUAL

    def text(self, clip: Clip) -> str:
        """Return the text of a sample."""
        return cell_text(_row(clip, self.id_column, self.format)[self.role])

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

    @classmethod
    def of(cls, column: str, clips: Sequence[Clip]) -> ArrayFileReader:
        """Describe the files by the shape of the first, and by a type that holds the numbers of all.

        Raises:
            MediaError: none can be read; the error is that of the first.
        """
        found: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
        damaged: list[MediaError] = []
        for clip in clips:
            try:
                array = array_in(clip.files[column], mapped=True)
            except MediaError as error:  # the sample is lost when it is read
                damaged.append(error)
            else:
                found.append((array.shape, array.dtype))
        if not found:
            raise damaged[0]
        shape = found[0][0]
        stored = np.result_type(*{dtype for other, dtype in found if other == shape})
        kind = next(kind for kind, axes in KIND_AXES.items() if len(axes) == len(shape))
        return cls(column, shape, stored.name, kind)

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

    def refuse(what: str) -> MediaError:
        return MediaError(path, "wrong-format", f"is not an array ({what})", "write it with numpy.save")

    found = read_array(path, refuse, mapped=mapped)
    numbers = found.dtype.kind in "biuf" and found.itemsize <= 8
    if not numbers or not 1 <= found.ndim <= 4:
        raise MediaError(
            path,
            "wrong-format",
            "holds no numbers, up to 64 bits each, of one to four axes",
            "write it with numpy.save",
        )
    return found
