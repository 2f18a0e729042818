"""Processes that another one has started: they end with it, and it knows how they have ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from typing import Any, Final

POLL: Final = 0.5


class Workers(ProcessPoolExecutor):
    """A pool of new processes that are known to `children`."""

    def __init__(self, count: int, initializer: Callable[..., object], *arguments: Any) -> None:
        # A forked child would inherit locks, and threads of torch, in an undefined state.
        context = multiprocessing.get_context("spawn")
        super().__init__(count, context, initializer=initializer, initargs=arguments)
        self._others = set(multiprocessing.active_children())
        self.children: set[BaseProcess] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call, for which a process may be started."""
        future = super().submit(fn, *args, **kwargs)
        self.children.update(set(multiprocessing.active_children()) - self._others)
        return future

    def how_lost(self) -> tuple[str, str]:
        """Return the signal that ended the process by which the pool was lost, and in words how it ended.

        The signal is empty where the process has ended by itself.

        Raises:
            KeyboardInterrupt: a terminal has interrupted it, which reaches the workers first.
        """
        # A future fails as soon as its process has closed its files; its exit code is known only later.
        self.shutdown(wait=True, cancel_futures=True)
        codes = [child.exitcode for child in self.children if child.exitcode]
        if -signal.SIGINT in codes:
            raise KeyboardInterrupt
        # The pool ends the other processes by SIGTERM.
        code = next((code for code in codes if code != -signal.SIGTERM), codes[0] if codes else 0)
        if code >= 0:
            return "", f"ended with the exit code {code}"
        name = next((one.name for one in signal.Signals if one == -code), f"signal {-code}")
        return name, _in_words(name)


def _in_words(name: str) -> str:
    if name == "SIGKILL":
        return (
            "was killed (SIGKILL), probably by the system for want of memory; use fewer processes "
            "(--workers), make batches smaller (--batch-size), or use a machine with more"
        )
    if name == "SIGBUS":
        return "crashed (SIGBUS): a file that it was reading has become shorter, or the disk fails"
    return f"was ended ({name})" if name == "SIGTERM" else f"crashed ({name})"


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
