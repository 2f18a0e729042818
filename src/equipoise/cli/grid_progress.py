"""How far a grid is, and when it ends, read from the records that its runs write."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.training.record.locks import LOCK
from equipoise.training.record.record import METRICS

if TYPE_CHECKING:  # a training does not need what a grid loads
    from equipoise.experiments.grid.jobs import Job, Outcome

EPOCH = b'"event": "epoch"'


@dataclass
class Running:
    """A run in progress: when it was first seen, the epochs that it had then, and those that it has now."""

    job: Job
    since: float
    resumed: int
    epochs: int


class GridProgress:
    """Runs that are done, failed and running; needs no connection to the processes that compute them.

    A run holds the lock of its folder. Locks that exist at the start are left from killed processes; they
    count once a run has taken them again.
    """

    def __init__(self, jobs: Sequence[Job], done: Iterable[Job] = ()) -> None:
        self._open = {job.folder: job for job in jobs}
        self._stale = {folder: _taken(folder) for folder in self._open}
        self._running: dict[Path, Running] = {}
        self._pace: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.total, self.failed, self.workers = len(jobs), 0, 1
        for job in done:
            del self._open[job.folder]

    @property
    def ended(self) -> int:
        """Number of runs that have ended, also those that failed."""
        return self.total - len(self._open)

    @property
    def running(self) -> list[Running]:
        """The runs in progress, in the order of their start."""
        return list(self._running.values())

    def read(self) -> None:
        """Look which runs are in progress, and at which epoch."""
        for folder, job in self._open.items():
            taken = _taken(folder)
            if taken is None or taken == self._stale[folder]:
                continue
            epochs = epochs_done(folder)
            entry = self._running.setdefault(folder, Running(job, time.monotonic(), epochs, epochs))
            entry.epochs = epochs
        self.workers = max(self.workers, len(self._running))

    def end(self, outcome: Outcome) -> float:
        """Count a run as ended; return the seconds since it was first seen."""
        job = outcome.job
        del self._open[job.folder]
        entry = self._running.pop(job.folder, None)
        seconds = time.monotonic() - entry.since if entry else 0.0
        self.failed += outcome.error is not None
        if entry and outcome.error is None and job.epochs > entry.resumed:
            self._pace[_kind(job)].append(seconds / (job.epochs - entry.resumed))
        return seconds

    def seconds_left(self) -> float | None:
        """Estimate when all runs have ended: by the measured seconds an epoch and the workers; None at first.

        A method that has not been measured in its comparison is expected to take the mean of the others.
        """
        pace = self._measured()
        if not pace:
            return None
        usual = sum(pace.values()) / len(pace)
        left = []
        for folder, job in self._open.items():
            entry = self._running.get(folder)
            epochs = job.epochs - (entry.epochs if entry else 0)
            left.append(max(epochs, 0) * pace.get(_kind(job), usual))
        return max(sum(left) / self.workers, max(left, default=0.0))

    def _measured(self) -> dict[tuple[str, str], float]:
        """Return the mean seconds an epoch by comparison and method, of runs in progress where none ended."""
        held = {kind: list(values) for kind, values in self._pace.items()}
        for entry in self._running.values():
            if entry.epochs > entry.resumed and _kind(entry.job) not in self._pace:
                seconds = (time.monotonic() - entry.since) / (entry.epochs - entry.resumed)
                held.setdefault(_kind(entry.job), []).append(seconds)
        return {kind: sum(values) / len(values) for kind, values in held.items()}


def _kind(job: Job) -> tuple[str, str]:
    return job.cell, job.settings.method


def _taken(folder: Path) -> int | None:
    """Return when the lock of a run was taken; None if nobody has it."""
    try:
        return (folder / LOCK).stat().st_mtime_ns
    except OSError:
        return None


def epochs_done(folder: Path) -> int:
    """Return how many epochs the record in `folder` holds."""
    try:
        return (folder / METRICS).read_bytes().count(EPOCH)
    except OSError:
        return 0
