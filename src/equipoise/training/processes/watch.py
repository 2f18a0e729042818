"""A thread in every process that notices when another one is lost, or has failed, and ends this one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, NoReturn

import torch.distributed as dist

from equipoise.distributed import agreed, process_count, process_rank
from equipoise.files.printable import say
from equipoise.types import EquipoiseError, TrainingError

INTERVAL: Final = 1.0
"""Seconds between two signs of life."""
LIMIT: Final = 45.0
"""Seconds without a sign of life after which a process is lost."""
SUSPECTED: Final = 6.0
"""The same once an exchange with another process has failed."""
FAILURE, SUSPECT = "failure", "suspect"
MEETING: Final = 600.0
"""Seconds in which all processes have to start."""


@contextmanager
def meeting(count: int) -> Iterator[None]:
    """End this process if a block, in which it waits for the others, takes too long."""

    def give_up() -> None:
        say(
            f"equipoise: {count} processes were to train together, and not all have started within "
            f"{MEETING / 60:.0f} minutes; see what has become of the others, or start one alone."
        )
        os._exit(1)

    timer = threading.Timer(MEETING, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Watch(threading.Thread):
    """Every process gives signs of life; the first one looks for those that have stopped.

    A process that is killed, or whose machine is lost, leaves the others waiting for it, with some kinds of
    connection for ever. The first loss or failure is told to all; where the main thread waits, the process
    is ended.

    Args:
        quiet: whether the process that started this one tells the user what has happened.
    """

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(name="equipoise-watch", daemon=True)
        self.rank, self.count = process_rank(), process_count()
        self._quiet, self._parent = quiet, os.getppid()
        self._store = _shared_store()
        self._over, self._handled = threading.Event(), threading.Event()
        self._seen = dict.fromkeys(range(1, self.count), ("", time.monotonic()))

    def run(self) -> None:
        """Give and look for signs of life until `stop`."""
        beat = 0
        while not self._over.wait(INTERVAL):
            beat += 1
            try:
                self._store.set(f"beat/{self.rank}", str(beat))
                if self.rank == 0:
                    self._look()
                cause = self._told()
            except RuntimeError:  # the first process holds the store
                cause = self._lost(0)
            if os.getppid() != self._parent:
                cause = "the process that started this one has ended."
            if cause and not self._handled.is_set() and not self._over.is_set():
                self._end(cause)

    def stop(self) -> None:
        """Stop watching; the other processes may end from now on."""
        self._over.set()

    def explained(self, error: Exception) -> Exception:
        """Tell the other processes of an error of this one, unless it is the effect of their own.

        Returns:
            The error to raise; `SystemExit` where the first process raises the same one.
        """
        self._handled.set()
        try:
            if isinstance(error, RuntimeError) and not isinstance(error, EquipoiseError):
                self._store.set(SUSPECT, "1")
                if cause := self._waited(SUSPECTED + 4 * INTERVAL):
                    return TrainingError(f"{cause} Continue with --resume.")
            text = f"{type(error).__name__}: {error}"
            self._store.set(f"error/{self.rank}", text)
            self._store.compare_set(FAILURE, "", f"process {self.rank} of {self.count} failed: {text}")
        except RuntimeError:
            return TrainingError(f"{self._lost(0)} Continue with --resume.")
        return error

    def repeated(self, error: Exception) -> bool:
        """Return whether the first process has raised the same error as this one."""
        if self.rank == 0:
            return False
        try:
            self._store.wait(["error/0"], timedelta(seconds=3 * INTERVAL))
            return bool(self._store.get("error/0").decode() == f"{type(error).__name__}: {error}")
        except RuntimeError:
            return False

    def _look(self) -> None:
        """Tell all processes of one that gives no sign of life any more."""
        now = time.monotonic()
        limit = SUSPECTED if self._store.check([SUSPECT]) else LIMIT
        for other, (last, since) in self._seen.items():
            key = f"beat/{other}"
            beat = self._store.get(key).decode() if self._store.check([key]) else ""
            if beat != last:
                self._seen[other] = beat, now
            elif now - since > limit:
                self._store.compare_set(FAILURE, "", self._lost(other))

    def _told(self) -> str:
        return self._store.get(FAILURE).decode() if self._store.check([FAILURE]) else ""

    def _waited(self, seconds: float) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if cause := self._told():
                return cause
            time.sleep(INTERVAL / 4)
        return ""

    def _lost(self, rank: int) -> str:
        return f"process {rank} of {self.count} (counted from 0) has ended without a word."

    def _end(self, cause: str) -> NoReturn:
        if not self._quiet and self.rank == (1 if cause == self._lost(0) else 0):
            say(f"equipoise: {cause} Continue with --resume.")
        os._exit(1)


def _shared_store() -> Any:
    """Return a store of texts that all processes share; the first one holds it."""
    # Not that of the process group: its connections wait for minutes.
    host, waiting = os.environ.get("MASTER_ADDR", "127.0.0.1"), timedelta(seconds=LIMIT)
    connect: Any = dist.TCPStore  # type: ignore[attr-defined]  # untyped in torch
    held = connect(host, 0, is_master=True, wait_for_workers=False) if process_rank() == 0 else None
    port = agreed(held.port if held is not None else 0)
    return held or connect(host, port, is_master=False, timeout=waiting)
