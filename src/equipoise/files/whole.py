"""Files written whole or not at all, that survive a loss of power, and one message for a full disk."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Final

from equipoise.types import EquipoiseError, NoSpaceError, RunFolderError

PARTIAL: Final = ".*.part"
"""Pattern of the files that are being written, or were when their process was killed."""
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a full disk, of the user's quota, and of the largest file that the user may write."""


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a path to write to; its file replaces `path` when the block ends without error.

    Each process has its own, so that those that write at the same time do not mix. The content is on the disk
    before it gets its name: after a loss of power the name never stands for an empty file.

    Raises:
        NoSpaceError: the disk is full; nothing of the new file is left.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with room_for(path):
            yield partial
            sync(partial)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text so that the file is there whole or not at all, and its folder too."""
    with room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Add a line to a file, whole or not at all; half a line that a killed process has left is removed.

    Raises:
        NoSpaceError: the disk is full; the file is as it was.
    """
    with room_for(path), path.open("a+b", buffering=0) as file:
        end = _end_of_lines(file)
        file.truncate(end)
        left = memoryview(f"{line}\n".encode())
        try:
            while left:
                left = left[file.write(left) :]
        except BaseException:
            file.truncate(end)
            raise


def _end_of_lines(file: FileIO) -> int:
    """Return the size of a file without its last line, if that is not complete."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        if (found := file.read(end - start).rfind(b"\n")) >= 0:
            return start + found + 1
        end = start
    return 0


def reserve(path: Path) -> None:
    """Give a file that is mapped into memory all its room on the disk, where the system can do that.

    Without it, writing into the map ends the process when the disk is full.

    Raises:
        NoSpaceError: there is not enough.
    """
    if hasattr(os, "posix_fallocate"):
        with room_for(path), path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def sync(path: Path) -> None:
    """Wait until what was written into a file is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in a folder are on the disk, where the system can do that."""
    with suppress(OSError):  # Windows opens no folder, and some file systems of a network cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Raise a NoSpaceError where a block ends with an error because there is no room for `path`."""
    try:
        yield
    except EquipoiseError:
        raise  # that says more
    except Exception as error:
        if (full := no_space(error, path)) is None:
            raise
        raise full from None


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Raise a RunFolderError where a block ends because a file of a folder cannot be read or written.

    Raises:
        NoSpaceError: the disk is full.
        RunFolderError: the folder was removed, may only be read, or its disk fails.
    """
    there = folder.exists()
    try:
        with room_for(folder):
            yield
    except EquipoiseError:
        raise
    except Exception as error:
        if there and not folder.exists():
            raise RunFolderError(
                f"{folder} was removed while it was in use; run the same command again, and leave it there."
            ) from error
        named = getattr(error, "filename", None)
        if isinstance(error, OSError) and named and Path(os.fsdecode(named)).is_relative_to(folder):
            raise RunFolderError(
                f"cannot use {os.fsdecode(named)} ({error.strerror}); check permissions and disk, and run "
                "the same command again, with --resume (resume=True) where it trains."
            ) from error
        raise


def no_space(error: BaseException, path: Path) -> NoSpaceError | None:
    """Return what to say of an error in writing `path` that was caused by a full disk; None for others."""
    code = _code(error)
    if code not in FULL:
        return None
    named = getattr(error, "filename", None)
    place = Path(os.fsdecode(named)) if isinstance(named, str | bytes) and named else path
    why = "" if code == errno.ENOSPC else f" ({os.strerror(code).lower()})"
    return NoSpaceError(
        f"no space left in {place.parent} for {_shown(place)}{why}; free some there, and run the same "
        "command again, with --resume (resume=True) where it trains."
    )


def _shown(path: Path) -> str:
    """Return the name of a file, also of one that is being written."""
    return re.sub(r"^\.(.*)\.\d+\.part$", r"\1", path.name)


def _code(error: BaseException | None) -> int:
    """Return the number of the system's error behind an error, 0 if there is none.

    torch raises its own error while it handles that of the file; safetensors has the number in its text.
    """
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        if type(error).__name__ == "SafetensorError" and (found := re.search(r"os error (\d+)", str(error))):
            return int(found[1])
        if type(error).__module__.startswith(("sqlite3", "sqlalchemy")) and "disk is full" in str(error):
            return errno.ENOSPC
        seen.append(error)
        error = error.__cause__ or error.__context__
    return 0
