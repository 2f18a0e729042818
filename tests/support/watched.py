"""What a block does beside reading: programs, connections, files that it writes, moves or removes."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equipoise.files import parquet_trial

STARTS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "subprocess.Popen",
    "pty.spawn",
)
CONNECTS = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "webbrowser.open")
CHANGES = (
    *("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"),
    *("os.chown", "os.utime", "os.setxattr", "shutil.move", "shutil.rmtree", "shutil.copyfile"),
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
TRIAL = [sys.executable, "-P", parquet_trial.__file__]
_watching: list[tuple[list[str], tuple[str, ...]]] = []


@contextmanager
def watched(*allowed: Path) -> Iterator[list[str]]:
    """Watch a block; the list has what it did, but for changes of files in the allowed folders.

    The process in which Parquet is tried, files of compiled modules and those in the folder of temporary
    files are allowed too. Only what Python does is seen; what a library does itself shows in the files.
    """
    if _hook not in _installed:  # a hook cannot be removed
        sys.addaudithook(_hook)
        _installed.append(_hook)
    done: list[str] = []
    own = tuple(str(path.resolve()) for path in (*allowed, Path(tempfile.gettempdir())))
    _watching.append((done, own))
    try:
        yield done
    finally:
        _watching.remove((done, own))


def _hook(event: str, given: tuple[Any, ...]) -> None:
    if not _watching or not (event == "open" or event in _SEEN):
        return
    done, own = _watching[-1]
    if event == "subprocess.Popen" and list(given[1][:3]) == TRIAL:
        return
    if event in STARTS or event in CONNECTS:
        done.append(f"{event} {str(given)[:100]}")
        return
    if event == "open" and not _writes(*given):
        return
    for path in given[:2] if event in ("os.rename", "os.link", "os.symlink", "shutil.move") else given[:1]:
        if not _harmless(path, own):
            done.append(f"{event} {path}")


_SEEN = frozenset((*STARTS, *CONNECTS, *CHANGES))
_installed: list[Any] = []


def _writes(path: Any, mode: Any, flags: Any) -> bool:
    """Return whether a file is opened to be written; `os.open` has flags alone."""
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return isinstance(flags, int) and bool(flags & WRITES)


def _harmless(path: Any, own: tuple[str, ...]) -> bool:
    if isinstance(path, int):  # a file that is open
        return True
    where = os.path.realpath(os.fsdecode(path))
    return where.startswith(own) or where.startswith("/dev/") or "__pycache__" in where
