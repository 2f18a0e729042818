"""The lock of a folder that one process at a time may write into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from equipoise.files.limits import check_machine
from equipoise.files.whole import room_for
from equipoise.types import NoSpaceError, PathError, RunFolderError

LOCK: Final = ".lock"


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, which is created if need be, so that no other process writes into it.

    Raises:
        RunFolderError: another process holds the lock, and `wait` is false.
        PathError: the folder cannot be written.
        NoSpaceError: its disk is full.
    """
    path = folder / LOCK
    lock = FileLock(path, timeout=-1 if wait else 0)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    with _without_empty_folders(made):
        _acquire(lock, path)
        try:
            path.touch()  # where a killed process left the file, its time shows that it is in use again
            yield
        finally:
            path.unlink(missing_ok=True)
            lock.release()


@contextmanager
def _without_empty_folders(made: Sequence[Path]) -> Iterator[None]:
    """Remove folders made for a block in which a disk was full, unless something is in them."""
    try:
        yield
    except NoSpaceError:
        for place in made:
            with suppress(OSError):
                place.rmdir()
        raise


def _acquire(lock: FileLock, path: Path) -> None:
    folder = path.parent
    try:
        with room_for(path):
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout:
        raise RunFolderError(
            f"another process is writing into {folder}; wait for it to end, or choose another folder."
        ) from None
    except OSError as error:
        check_machine(error)
        raise PathError(
            f"cannot write the folder {folder} ({error.strerror or error}); choose another one."
        ) from None
