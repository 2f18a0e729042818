"""The last two checkpoints of a run, each with its digest.

A checkpoint knows how far the event files were when it was written, and by their digests what they held. In
this order everything reaches the disk: event files and snapshots; the new checkpoint, under another name; its
name, after the last checkpoint has become the one before. So after a kill or a loss of power at any moment at
least one of both is whole, and what it knows of is there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from equipoise.files.limits import check_machine
from equipoise.files.torch_files import load_tensors
from equipoise.files.untrusted import Refuse, first_line, parsing
from equipoise.files.whole import replaced, sync, sync_folder
from equipoise.training.record.record import BEFORE_LAST, CHECKPOINT, RESULT, SNAPSHOT_INDEX, RunRecord
from equipoise.training.record.snapshots import Snapshots
from equipoise.types import RunFolderError, warn

CHECKPOINT_FORMAT: Final = 4
"""Format 3 had no digest, and knew only the sizes of the event files."""
MARK: Final = b"\nsha256 "
END: Final = len(MARK) + hashlib.sha256().digest_size * 2
"""Bytes after the archive of torch: the digest of the archive, which no reader of archives minds."""
AGAIN: Final = "overwrite the run to start again."


def save_checkpoint(record: RunRecord, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values, whole or not at all; the last one is kept.

    Raises:
        NoSpaceError: the disk is full; the last checkpoints are as they were.
    """
    path = record.path(CHECKPOINT)
    with replaced(path) as partial:
        write_checkpoint(partial, {"format": CHECKPOINT_FORMAT, "events": record.confirmed(), **state})
        sync(partial)
        if path.is_file():
            path.replace(record.path(BEFORE_LAST))
    sync_folder(record.folder)


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write an archive of torch with its digest."""
    import torch

    with path.open("w+b") as file:  # opened here, as torch does not say why it cannot write
        torch.save(state, file)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
        file.write(MARK + digest.hexdigest().encode())


def restored(record: RunRecord) -> dict[str, Any]:
    """Read the last checkpoint, or with a warning the one before it, and return the record to its state.

    Events and snapshots after that checkpoint are dropped.

    Raises:
        RunFolderError: no checkpoint is whole, and fits the other files of the record.
    """
    problems: list[str] = []
    snapshots = Snapshots(record)
    for name in (CHECKPOINT, BEFORE_LAST):
        if not record.path(name).is_file():
            continue
        try:
            state = load_checkpoint(record.path(name))
            with parsing(_damaged(record.path(name))):  # whatever its digest says
                record.check_confirmed(state["events"])
                snapshots.check(state["events"][SNAPSHOT_INDEX]["bytes"])
        except RunFolderError as error:
            problems.append(str(error))
            continue
        if problems:
            warn(
                f"{problems[0]}; the run continues from the checkpoint before that, of epoch "
                f"{state['epoch']}, to the same result."
            )
        if name != CHECKPOINT:  # a damaged one must not take the place of a whole one
            record.path(name).replace(record.path(CHECKPOINT))
        record.path(RESULT).unlink(missing_ok=True)  # it was finished, and its weights were lost
        record.cut_back(state["events"])
        snapshots.drop_unnamed()
        return state
    raise RunFolderError(f"{problems[0]}; {AGAIN}")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; no code in it is executed.

    Raises:
        RunFolderError: it is damaged, or of another format.
    """
    damaged = _damaged(path)("its SHA-256 differs")
    try:
        whole, marked = _is_whole(path)
        if marked and not whole:
            raise damaged
        state: dict[str, Any] = load_tensors(path)
        found = state.get("format")
    except RunFolderError:
        raise
    except Exception as error:  # torch.load raises many kinds of errors for a damaged file
        check_machine(error)
        raise RunFolderError(f"the checkpoint {path} cannot be read ({first_line(error)})") from None
    if found != CHECKPOINT_FORMAT:
        raise RunFolderError(
            f"the checkpoint {path} has the format {found!r}, expected {CHECKPOINT_FORMAT}: another version "
            "of Equipoise has written it"
        )
    if not whole:
        raise damaged
    return state


def _damaged(path: Path) -> Refuse:
    return lambda found: RunFolderError(f"the checkpoint {path} is damaged ({found})")


def _is_whole(path: Path) -> tuple[bool, bool]:
    """Return whether a checkpoint has the digest that it was written with, and whether it has any."""
    with path.open("rb") as file:
        digest, left = hashlib.sha256(), path.stat().st_size - END
        while left > 0 and (part := file.read(min(left, 2**20))):
            digest.update(part)
            left -= len(part)
        end = file.read()
    return end == MARK + digest.hexdigest().encode(), end.startswith(MARK)
