"""Unfinished work of a preparation on disk: arrays filled row by row, and a journal of finished rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.format.content import digest, row_hashes
from equipoise.data.format.folder import FORMAT_VERSION, array_file
from equipoise.data.prepare.clips import Clip, Lost, Preparation
from equipoise.files.untrusted import parse_json, parsing, read_json
from equipoise.files.whole import reserve, write_atomically
from equipoise.types import NoSpaceError, RunFolderError

PLAN_FILE = "plan.json"
JOURNAL_FILE = "journal.jsonl"


@dataclass(frozen=True)
class Outcome:
    """The result of reading one sample.

    Attributes:
        row: its position among the clips.
        stamp: of the files it was read from, see `clip_stamp`.
        hashes: modality to the content hash of its row; empty if it was lost.
        lost: why it was lost, or None.
    """

    row: int
    stamp: str
    hashes: Mapping[str, str] = field(default_factory=dict)
    lost: Lost | None = None


class Work:
    """The folder of a preparation in progress.

    The work can be interrupted at any time and resumed. On resuming, finished rows are compared with their
    hashes, because a disk may write the journal before the arrays.

    Args:
        folder: created if missing; the work of another plan in it is deleted.
        preparation: the clips and their readers.

    Attributes:
        outcomes: row to outcome, of all samples that are finished. On resuming, lost samples are read again,
            because their files may have been repaired.

    Raises:
        NoSpaceError: there is not enough space on the disk.
    """

    def __init__(self, folder: Path, preparation: Preparation) -> None:
        self.folder = folder
        self.layouts = {name: reader.layout for name, reader in preparation.readers.items()}
        self.count = len(preparation.clips)
        plan = plan_digest(preparation)
        if _plan_in(folder) != plan:
            self._begin(plan)
        self.outcomes = self._resumed(preparation.clips)
        self._journal = (folder / JOURNAL_FILE).open("a", encoding="utf-8")

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Record the outcomes of samples whose rows have been written."""
        self._journal.write("".join(json.dumps(asdict(outcome)) + "\n" for outcome in outcomes))
        self._journal.flush()
        self.outcomes |= {outcome.row: outcome for outcome in outcomes}

    def file(self, modality: str) -> Path:
        """Return the array file of a modality."""
        return self.folder / array_file(list(self.layouts).index(modality), modality)

    def _begin(self, plan: str) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self._make(plan)
        except NoSpaceError:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _make(self, plan: str) -> None:
        needed = sum(self.count * layout.row_bytes for layout in self.layouts.values())
        parent = next(parent for parent in self.folder.parents if parent.exists())
        free = shutil.disk_usage(parent).free
        if needed > free:
            raise NoSpaceError(
                f"the dataset needs {needed / 2**30:.2f} GiB and {parent} has {free / 2**30:.2f} GiB free; "
                "choose another folder or disk, or fewer or smaller frames."
            )
        self.folder.mkdir(parents=True)
        for modality, layout in self.layouts.items():
            shape = (self.count, *layout.shape)
            np.lib.format.open_memmap(self.file(modality), "w+", layout.stored_type, shape).flush()
            reserve(self.file(modality))
        # Written last: a folder without a plan counts as empty.
        write_atomically(self.folder / PLAN_FILE, json.dumps({"plan": plan}) + "\n")

    def _resumed(self, clips: Sequence[Clip]) -> dict[int, Outcome]:
        path = self.folder / JOURNAL_FILE
        _drop_half_line(path)
        arrays = {m: np.load(self.file(m), mmap_mode="r") for m in self.layouts}

        def usable(outcome: Outcome) -> bool:
            return (
                outcome.lost is None
                and outcome.stamp == clip_stamp(clips[outcome.row])
                and all(
                    row_hashes(array[outcome.row][None]) == [outcome.hashes.get(m)]
                    for m, array in arrays.items()
                )
            )

        return {outcome.row: outcome for outcome in _entries(path) if usable(outcome)}


def plan_digest(preparation: Preparation) -> str:
    """Hash everything that determines the dataset, except the content of its files."""
    readers = {name: reader.describe() for name, reader in preparation.readers.items()}
    clips = [
        [c.id, c.label, c.split, c.group, c.start, c.seconds, {r: str(f) for r, f in c.files.items()}]
        for c in preparation.clips
    ]
    described = [preparation.name, list(preparation.classes or []), dict(preparation.facts)]
    return digest(FORMAT_VERSION, described, list(readers), readers, clips)


def clip_stamp(clip: Clip) -> str:
    """Hash size and modification time of the files of a clip."""
    found: list[list[Any]] = []
    for role, path in clip.files.items():
        try:
            state = path.stat()
        except OSError:
            found.append([role, None, None])
        else:
            found.append([role, state.st_size, state.st_mtime_ns])
    return digest(found)


def _plan_in(folder: Path) -> str | None:
    try:
        return str(read_json(folder / PLAN_FILE, RunFolderError).get("plan"))
    except (OSError, RunFolderError):
        return None


def _drop_half_line(path: Path) -> None:
    """Remove an incomplete last line, which a killed process may leave."""
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _entries(path: Path) -> Iterator[Outcome]:
    if not path.exists():
        return

    def refuse(found: str) -> RunFolderError:
        return RunFolderError(
            f"{path} is damaged ({found}); delete the folder {path.parent} and start again."
        )

    with parsing(refuse), path.open(encoding="utf-8") as file:
        for line in file:
            values = parse_json(line)
            lost = values.pop("lost")
            yield Outcome(**values, lost=None if lost is None else Lost(**lost))


def unlink(staging: Path) -> None:
    """Give what an earlier call has left files of its own.

    One that was killed right before it removed them has linked them to the dataset, which must not change.
    """
    for file in staging.glob("*.npy"):
        if file.stat().st_nlink > 1:
            copy = file.with_suffix(".copy")
            shutil.copyfile(file, copy)
            copy.replace(file)
