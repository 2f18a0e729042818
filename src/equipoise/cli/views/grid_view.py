"""The live view of a grid: what runs now, what is done, failed and left, and when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from equipoise.cli.grid_progress import GridProgress, Running
from equipoise.cli.progress import INTERVAL, LINE_EVERY
from equipoise.cli.tables import print_plain

if TYPE_CHECKING:  # a training does not need what a grid loads
    from equipoise.experiments.grid.jobs import Job, Outcome

SHOWN: Final = 8
"""Runs in progress that are shown one by one."""


class GridView:
    """Shows the progress of a grid; an `Observer` of it.

    On a terminal it is a bar with the runs in progress below it, and a line stays of each run that failed.
    Elsewhere, such as in the log of a batch job, there is a line for each run that has ended, and one now and
    then if none has. The `note` is printed once the work has begun, and so not before an error of use.
    """

    def __init__(self, console: Console, note: str | None = None) -> None:
        self._console, self._note = console, note
        self._progress: GridProgress | None = None
        self._changing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._live = Live(console=console, transient=True, auto_refresh=False)
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._live.is_started:  # stopping another one would print an empty line
            self._live.stop()

    def planned(self, jobs: Sequence[Job], done: Sequence[Job]) -> None:
        """Watch the runs of a grid."""
        if self._note is not None:
            print_plain(self._console, self._note)
        self._progress = GridProgress(jobs, done)
        before = f", {len(done)} of them finished before" if done else ""
        if not self._console.is_terminal:
            print_plain(self._console, f"{len(jobs)} {'runs' if len(jobs) > 1 else 'run'}{before}")
        self._thread.start()

    def ended(self, outcome: Outcome) -> None:
        """Count a run, and print a line where there is no terminal, or it failed."""
        assert self._progress is not None  # planned before
        with self._changing:
            seconds = self._progress.end(outcome)
            if outcome.error is not None:
                how = f"failed: {' '.join(outcome.error.split())}"
            else:
                how = "copied" if outcome.job.same_as else f"{seconds:.0f} s"
            if outcome.error is not None or not self._console.is_terminal:
                self._print(f"{self._counts()}{self._end()}: {named(outcome.job)}: {how}")

    def _watch(self) -> None:
        # The first wait comes before the bar, so that a grid that fails early shows none.
        while not self._stop.wait(INTERVAL):
            with self._changing:
                assert self._progress is not None
                self._progress.read()
                if self._console.is_terminal:
                    if not self._live.is_started:
                        self._live.start()
                    self._live.update(self._shown(), refresh=True)
                elif time.monotonic() - self._last_line >= LINE_EVERY:
                    now = "; ".join(self._in_progress()) or "none is running"
                    self._print(f"{self._counts()}{self._end()}: {now}")

    def _print(self, line: str) -> None:
        self._last_line = time.monotonic()
        print_plain(self._console, line)

    def _shown(self) -> Group:
        """Return what the terminal shows."""
        assert self._progress is not None
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self._progress.total, completed=self._progress.ended, width=30)
        head.add_row(Text(self._counts()), bar, Text(self._end().removeprefix(", ")))
        return Group(head, *(Text(f"  {line}", overflow="ellipsis") for line in self._in_progress()))

    def _counts(self) -> str:
        assert self._progress is not None
        failed = f", {self._progress.failed} failed" if self._progress.failed else ""
        return f"{self._progress.ended} of {self._progress.total} runs{failed}"

    def _in_progress(self) -> Iterator[str]:
        assert self._progress is not None
        running = self._progress.running
        yield from map(at_epoch, running[:SHOWN])
        if len(running) > SHOWN:
            yield f"and {len(running) - SHOWN} more"

    def _end(self) -> str:
        assert self._progress is not None
        seconds = self._progress.seconds_left()
        if seconds is None or self._progress.ended == self._progress.total:
            return ""
        return f", ends in about {duration(seconds)} ({clock(seconds, datetime.now())})"


def named(job: Job) -> str:
    """Return a run in words: comparison, method and seed."""
    cell = f"{job.cell}, " if job.cell else ""
    return f"{cell}{job.settings.method}, seed {job.settings.seed}"


def at_epoch(run: Running) -> str:
    """Return a run in words with its epoch."""
    if not run.job.epochs:
        return named(run.job)
    # Epochs are counted from 1 here: the one that is being computed.
    return f"{named(run.job)}: epoch {min(run.epochs + 1, run.job.epochs)} of {run.job.epochs}"


def duration(seconds: float) -> str:
    """Return a time in words, in two units at most."""
    if seconds < 95:
        return f"{max(1, round(seconds / 10)) * 10} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def clock(seconds: float, now: datetime) -> str:
    """Return the time of day in so many seconds, with the date if that is another day."""
    end = now + timedelta(seconds=seconds)
    return f"{end:%H:%M}" if end.date() == now.date() else f"{end:%Y-%m-%d %H:%M}"
