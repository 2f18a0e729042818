"""Event files of a record: a line of JSON an event, added while a run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from equipoise.files.held import Held
from equipoise.files.untrusted import parse_json
from equipoise.files.whole import append_line, sync, sync_folder
from equipoise.training.record.seals import Seal, begins, changed, seal_of
from equipoise.types import RunFolderError

OPENINGS: Final = frozenset({"test", "diagnosis-test"})
"""Events that may follow in a finished run: its test split was opened again."""
REMEDY: Final = "Restore it from a copy, or overwrite the run to train it again."


def append_event(path: Path, event: Mapping[str, Any]) -> None:
    """Add an event; half a line that a killed process has left is removed before.

    Raises:
        NoSpaceError: the disk is full; the file is as it was.
    """
    append_line(path, json.dumps(event, allow_nan=True))


def read_events(path: Path, seal: Seal | None = None) -> Iterator[Held]:
    """Read the events of a file; an incomplete last line, left by a killed process, is skipped.

    Args:
        path: of the file; one that is not there has no event.
        seal: that of a finished run, where there is one.

    Raises:
        RunFolderError: a line is damaged, or the file is not what was sealed.
    """
    if seal is not None and not begins(path, seal):
        raise changed(path, REMEDY)
    if not path.is_file():
        return
    content, place = path.read_bytes(), 0
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            event = parse_json(line.decode("utf-8"))
        except (ValueError, RecursionError):  # no UTF-8, no JSON, no mapping, or nested too deep
            if number < len(lines) or line.endswith(b"\n"):
                raise RunFolderError(f"{path} is damaged in line {number}; run again.") from None
            return
        if seal is not None and place >= seal["bytes"] and event.get("event") not in OPENINGS:
            raise changed(path, REMEDY)
        place += len(line)
        yield Held(event, f"{path}, line {number},", REMEDY)


def confirmed(paths: Mapping[str, Path]) -> dict[str, Seal]:
    """Return the seals of event files as they are now, by name, once all of them are on the disk."""
    for path in paths.values():
        if path.is_file():
            sync(path)
    for folder in {path.parent for path in paths.values()}:
        sync_folder(folder)
    return {name: seal_of(path) for name, path in paths.items()}


def check_confirmed(paths: Mapping[str, Path], seals: Mapping[str, Seal]) -> None:
    """Check that event files still begin with what was confirmed.

    Raises:
        RunFolderError: one is shorter, or another one.
    """
    for name, seal in seals.items():
        path = paths[name]
        size = path.stat().st_size if path.is_file() else 0
        if size < seal["bytes"]:
            raise RunFolderError(
                f"{path} has {size} bytes, and the checkpoint knows of {seal['bytes']}: events are lost"
            )
        if not begins(path, seal):
            raise RunFolderError(f"{path} was damaged or changed since the checkpoint (its SHA-256 differs)")


def cut_back(paths: Mapping[str, Path], seals: Mapping[str, Seal]) -> None:
    """Remove the events after those that were confirmed; they will be repeated."""
    for name, seal in seals.items():
        path = paths[name]
        if path.is_file() and path.stat().st_size > seal["bytes"]:
            os.truncate(path, seal["bytes"])
