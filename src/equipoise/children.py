"""Processes that another one has started: they end with it, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from typing import Final

POLL: Final = 0.5


def end_with_parent() -> None:
    """End this process of a pool as soon as the one that started it has ended.

    Otherwise it would finish its work, and then wait for more forever.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a process of a pool
    _end_after(parent.join)


def end_with(pid: int) -> None:
    """End this process as soon as its parent is not the process `pid` any more."""

    def orphaned() -> None:
        while os.getppid() == pid:
            time.sleep(POLL)

    _end_after(orphaned)


def _end_after(wait: Callable[[], object]) -> None:
    def watch() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
