"""Your own data: a table with a row for each sample and columns for the modalities."""

from __future__ import annotations

from codecs import lookup
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.datasets.table_columns import (
    FILE_KINDS,
    column_of,
    file_of,
    filled_column,
    known_column,
    number_in,
    numbers_reader,
    parsed_modality,
    split_in,
)
from equipoise.data.format.content import digest
from equipoise.data.format.folder import listed
from equipoise.data.prepare.clips import UNLABELLED, Clip, ModalityReader, Preparation
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.media.flow import FlowMethod
from equipoise.data.prepare.media.images import Size, common_size, image_size, parsed_size, sides
from equipoise.data.prepare.media.video import frame_size
from equipoise.data.prepare.readers.audio_video import FbankReader, FramesReader, ImageReader, StftReader
from equipoise.data.prepare.readers.flow import FlowReader
from equipoise.data.prepare.readers.recorded import as_recorded
from equipoise.data.prepare.readers.table import (
    TABLE,
    ArrayFileReader,
    CellTextReader,
    NumbersReader,
)
from equipoise.data.prepare.readers.table_file import TextFormat, read_table, texts_of
from equipoise.data.prepare.readers.text import UTF8, TokensReader
from equipoise.types import DataError, UsageError

PIXELS: Final = 224
MEASURED: Final = 20
"""Files of a column whose proportions are looked at, evenly spaced."""


@dataclass(frozen=True, kw_only=True)
class OwnTable(SourceDataset):
    """Your own table: CSV, TSV or Parquet, with file paths, numbers or texts in its cells.

    Attributes:
        modalities_from: modalities, as NAME:COLUMN=KIND, or COLUMN=KIND if name and column are equal. With
            the kinds frames, flow (computed), image, spectrogram, fbank, tokens (a text file) or array
            (.npy), a cell names a file; with numbers (COLUMN may end in * for several columns) or text, it is
            the value.
        target: column of the class, or of the number with the task regression.
        split: column of train, val or test; by default `split` if it exists.
        group: column of groups that must stay in one split; by default `group` if it exists.
        separator: between the cells of a text table: one character, or `tab`; by default a comma in `.csv`,
            else a tab.
        decimal: mark in the numbers of a text table: `.` or `,`.
        encoding: of a text table and of text files, such as `utf-16` or `latin-1`.
        text_encoding: of text files, if it is another than that of the table.
        ids: column of unique names; by default `id` if it exists, else row numbers.
        task: `classification` or `regression`.
        root: folder of relative paths; by default that of the table.
        frames: number of frames of a video.
        moments: number of moments of flow; motion needs more of them than pictures do.
        pixels: shorter side of frames, flow and images, by default 224, unless the files are smaller. They
            keep their proportions; if the files have several, they are cut to their centre square.
        resolution: their size as HEIGHTxWIDTH, such as 120x160, instead of `pixels`; a picture is cut to
            these proportions and resized.
        flow_method: `tvl1`, `dis`, `farneback`, or `auto`.
        seconds: length of sound in a spectrogram.
        steps: length of fbank features, in steps of 10 ms.
        length: number of tokens of a text.
    """

    name = "table"
    description = "your own data: a CSV, TSV or Parquet table of files and numbers"
    modalities = ("yours",)
    licence = "yours"
    source = "your own files"
    citation = "yours"
    expected = "one row for each sample: columns for the modalities and the target"
    size = "any"

    modalities_from: tuple[str, ...] = ()
    target: str = "target"
    split: str | None = None
    group: str | None = None
    ids: str | None = None
    separator: str | None = None
    decimal: str = "."
    encoding: str = "utf-8"
    text_encoding: str | None = None
    task: Literal["classification", "regression"] = "classification"
    root: str | None = None
    frames: int = 3
    moments: int = 12
    pixels: int | None = None
    resolution: str | None = None
    flow_method: FlowMethod = "auto"
    seconds: float = 3.0
    steps: int = 1024
    length: int = 64

    def plan(self, source: Path) -> Preparation:
        """List the samples; see `SourceDataset.plan`."""
        if self.pixels is not None and self.resolution is not None:
            raise UsageError("pixels and resolution were both given; expected one of them.")
        table = read_table(source, self._format(self.encoding))
        wanted = [parsed_modality(text) for text in self.modalities_from]
        if not wanted:
            raise UsageError(
                "no modality was named; expected --modalities-from with at least one NAME:COLUMN=KIND, such "
                f"as rgb:clip=frames. The table has the columns {listed([str(c) for c in table.columns], 8)}."
            )
        if twice := [name for name, _, _ in wanted if [n for n, _, _ in wanted].count(name) > 1]:
            raise UsageError(f"the modality {twice[0]!r} is named twice; give each a unique name.")
        roles = self._roles(table)
        for name, column, kind in wanted:
            role = next((role for role, used in roles.items() if used == column), None)
            # A file may give a sample its id and its group: the input is then the content, not the name.
            if role and not (kind in FILE_KINDS and role in ("id", "group")):
                raise UsageError(
                    f"the modality {name!r} is the column {column!r}, which is the {role} of the samples and "
                    f"never an input; remove it from --modalities-from, or name another column as {role}."
                )
        columns = {column for _, column, kind in wanted if kind in FILE_KINDS}
        for column in sorted(columns):
            filled_column(table, column, source)
        clips = self._clips(table, source, sorted(columns), roles)
        readers = {name: self._reader(table, column, kind, clips, roles) for name, column, kind in wanted}
        labels = sorted({str(clip.label) for clip in clips})
        if self.task == "classification" and len(labels) < 2:
            raise DataError(f"{source} has only one class ({labels[0]!r}); expected at least two.")
        return Preparation(
            name=source.stem,
            clips=clips,
            readers=readers,
            classes=tuple(labels) if self.task == "classification" else None,
            notes=tuple(self._notes(readers)),
            facts={"table": source.name, "fingerprint": digest(table.astype(str).to_numpy().tolist())},
        )

    def new_samples(self, source: Path, recorded: Mapping[str, Mapping[str, Any]]) -> Preparation:
        """List the rows of another table with the same columns of inputs; the others are not needed.

        Relative paths start at the table, or at `root` where that still exists. See `SourceDataset`.
        """
        table = read_table(source, self._format(self.encoding))
        readers, files = as_recorded(recorded, {}), set[str]()
        for name, reader in readers.items():
            columns = reader.columns if isinstance(reader, NumbersReader) else (reader.role,)  # type: ignore[attr-defined]
            for column in columns:
                if column not in table.columns:
                    raise DataError(
                        f"{source} has no column {column!r}, from which the modality {name!r} is read; it "
                        f"has {listed([str(one) for one in table.columns], 8)}: add the column, or leave the "
                        f"modality out (--without {name}, without=[{name!r}])."
                    )
            if not isinstance(reader, NumbersReader | CellTextReader):
                files |= {*columns}
        ids = column_of(table, self.ids, "id")
        readers = {
            name: replace(reader, id_column=ids) if hasattr(reader, "id_column") else reader  # type: ignore[type-var]
            for name, reader in readers.items()
        }
        roles = {} if ids is None else {"id": ids}
        if self.target in table.columns and "" not in texts_of(table[self.target]):
            roles["target"] = self.target
        there = self.root is None or Path(self.root).expanduser().is_dir()
        clips = (self if there else replace(self, root=None))._clips(table, source, sorted(files), roles)
        return Preparation(name=source.stem, clips=clips, readers=readers, classes=None)

    def _size(self, column: str, kind: str, clips: Sequence[Clip]) -> Size:
        """Return the size of the pictures of a column; by default some of its files are looked at."""
        if self.resolution is not None:
            return parsed_size(self.resolution)
        measure = image_size if kind == "image" else frame_size
        found = []
        for place in np.linspace(0, len(clips) - 1, min(len(clips), MEASURED)).astype(int):
            with suppress(MediaError):  # the sample is lost when it is read
                found.append(measure(clips[place].files[column]))
        return common_size(found, PIXELS if self.pixels is None else self.pixels)

    def _notes(self, readers: Mapping[str, ModalityReader]) -> list[str]:
        """Say how pictures that are not square were treated."""
        notes, pictures = [], (FramesReader, FlowReader, ImageReader)
        for name, reader in readers.items() if self.resolution is None else ():
            if not isinstance(reader, pictures):
                continue
            tall, wide = sides(reader.size)
            others = f"{tall} x {wide} pixels; --resolution HEIGHTxWIDTH gives other proportions."
            if isinstance(reader.size, int):
                notes.append(f"{name}: files of several proportions are cut to their centre square, {others}")
            elif tall != wide:
                notes.append(f"{name}: pictures keep the proportions of the files, {others}")
        return notes

    def _format(self, encoding: str) -> TextFormat:
        tab = {"tab": "\t", "\\t": "\t"}
        text = TextFormat(encoding, tab.get(self.separator or "", self.separator), self.decimal)
        # A byte-order mark is no part of the first cell.
        return replace(text, encoding=UTF8) if lookup(encoding).name == "utf-8" else text

    def _roles(self, table: pd.DataFrame) -> dict[str, str]:
        """Return role to column: the target, and split, group and id if the table has them."""
        given = {"split": self.split, "group": self.group, "id": self.ids}
        found = {role: column_of(table, name, role) for role, name in given.items()}
        return {"target": self.target} | {
            role: column for role, column in found.items() if column is not None
        }

    def _clips(
        self, table: pd.DataFrame, source: Path, columns: list[str], roles: Mapping[str, str]
    ) -> list[Clip]:
        root = source.absolute().parent if self.root is None else Path(self.root).expanduser()
        given = {role: filled_column(table, column, source) for role, column in roles.items()}
        labels: Sequence[str | float] = given.get("target", [UNLABELLED] * len(table))
        if self.task == "regression" and "target" in given:
            how = self._format(self.encoding)
            labels = [
                number_in(text, self.target, row, source, how) for row, text in enumerate(given["target"])
            ]
        ids = given.get("id") or [str(one) for one in table.index]
        files = {column: table[column].astype(str).tolist() for column in columns}
        return [
            Clip(
                id=ids[row],
                label=labels[row],
                files={TABLE: source.absolute()}
                | {column: file_of(root, paths[row]) for column, paths in files.items()},
                split=split_in(given["split"][row], row, source) if "split" in given else None,
                group=given["group"][row] if "group" in given else None,
            )
            for row in range(len(table))
        ]

    def _reader(
        self, table: pd.DataFrame, column: str, kind: str, clips: Sequence[Clip], roles: Mapping[str, str]
    ) -> ModalityReader:
        cells: dict[str, Any] = {"id_column": roles.get("id"), "format": self._format(self.encoding)}
        encoding = self._format(self.text_encoding or self.encoding).encoding
        size = self._size(column, kind, clips) if kind in ("frames", "flow", "image") else 0
        makers: Mapping[str, Callable[[], ModalityReader]] = {
            "frames": lambda: FramesReader(column, count=self.frames, size=size),
            "flow": lambda: FlowReader(column, count=self.moments, size=size, method=self.flow_method),
            "image": lambda: ImageReader(column, size=size),
            "spectrogram": lambda: StftReader(column, seconds=self.seconds),
            "fbank": lambda: FbankReader(column, frames=self.steps),
            "tokens": lambda: TokensReader(column, length=self.length, encoding=encoding),
            "text": lambda: CellTextReader(known_column(table, column), length=self.length, **cells),
            "numbers": lambda: numbers_reader(table, column, roles, cells),
            "array": lambda: ArrayFileReader.of(column, clips),
        }
        return makers[kind]()
