"""Moments of a command: right before one of the changes that it makes below a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.truncate", "os.rmdir", "os.mkdir", "os.link"}
_noticed: list[Callable[[str], None]] = []
"""What is called with each change, as a hook of the interpreter stays forever."""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _noticed or not (event == "open" or event in CHANGES):
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    for notice in list(_noticed):
        notice(f"{event} {arguments[0]}")


@contextmanager
def changes_below(folder: Path, act: Callable[[list[str]], None] = lambda _: None) -> Iterator[list[str]]:
    """Yield the list of the changes below a folder in a block, which grows; before each, `act` gets it."""
    if not hasattr(changes_below, "hooked"):
        sys.addaudithook(_hook)
        changes_below.hooked = True  # type: ignore[attr-defined]
    changes: list[str] = []
    acting = False

    def notice(change: str) -> None:
        nonlocal acting
        if not acting and str(folder) in change:
            changes.append(change.replace(f"{folder}/", ""))
            acting = True  # what `act` changes does not count
            try:
                act(changes)
            finally:
                acting = False

    _noticed.append(notice)
    try:
        yield changes
    finally:
        _noticed.remove(notice)


@contextmanager
def before_change(folder: Path, name: str, act: Callable[[], object]) -> Iterator[list[str]]:
    """Call `act` right before the first change that a block makes to a file of this name below a folder."""
    done = False

    def notice(changes: list[str]) -> None:
        nonlocal done
        if not done and name in changes[-1]:
            done = True
            act()

    with changes_below(folder, notice) as changes:
        yield changes
    assert done, f"{name} was not changed, but: {changes[-5:]}"
