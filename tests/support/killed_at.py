"""A run that is killed right before one of the changes that it makes on the disk, and then resumed.

`python killed_at.py DATA FOLDER MOMENT...` trains in `FOLDER/MOMENT` for each of the numbers, and prints for
each whether the run was killed; the moment 0 kills nothing, and prints the number of changes. Each run is in
a process that is forked before torch has computed anything, as importing takes longest.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import lightning_fabric  # noqa: F401  imported once, before the forks
import safetensors.torch  # noqa: F401
import sklearn.linear_model  # noqa: F401
import torch._dynamo  # noqa: F401

import equipoise as eq
from equipoise.training import fit as _  # noqa: F401

SETTINGS: dict[str, Any] = {"epochs": 4, "batch_size": 32, "checkpoint_every": 1, "diagnose_every": 0}
CHANGES = {"os.rename", "os.remove", "os.truncate", "os.rmdir", "os.mkdir"}


def count_changes(folder: Path, moment: int) -> list[str]:
    """Kill this process right before a change in a folder; return the list of changes, which grows."""
    changes: list[str] = []

    def notice(event: str, arguments: tuple[Any, ...]) -> None:
        opened = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if not (opened or event in CHANGES) or str(folder) not in str(arguments[0]):
            return
        changes.append(f"{event} {Path(str(arguments[0])).name}")
        if len(changes) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(notice)
    return changes


def in_child(data: str, folder: Path, moment: int, *, resume: bool) -> int:
    """Train in a process of its own; return its status."""
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    try:
        changes = count_changes(folder, moment)
        eq.fit(data, out=folder, resume=resume, **SETTINGS)
        if not moment and not resume:
            print(len(changes), flush=True)  # noqa: T201
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(1)
    os._exit(0)


def main(data: str, place: Path, moments: list[int]) -> None:
    for moment in moments:
        folder = place / str(moment)
        killed = in_child(data, folder, moment, resume=False)
        if not moment:
            continue
        left = len(list(folder.iterdir())) if folder.is_dir() else 0
        resumed = in_child(data, folder, 0, resume=True)
        print(moment, os.WTERMSIG(killed), left, resumed, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [int(word) for word in sys.argv[3:]])
