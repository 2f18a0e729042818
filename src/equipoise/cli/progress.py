"""What shows that a command is working: bars on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from equipoise.cli.grid_progress import epochs_done
from equipoise.cli.tables import print_plain, progress_console
from equipoise.training.record.record import CONFIG, RunRecord

INTERVAL = 0.5
LINE_EVERY = 60.0
"""Seconds between two lines where the output is no terminal, such as in the log of a batch job."""


def new_start(folder: Path) -> str | None:
    """Return a line where `--resume` finds nothing that it could resume, else None."""
    record = RunRecord(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return f"note: there is nothing to resume in {folder}; this is a new start."
    begun = record.resumable or record.complete or record.holds_comparison
    if record.path(CONFIG).is_file() and not begun:
        return f"note: {folder} holds no checkpoint yet; the run starts at epoch 0."
    return None


@contextmanager
def waiting(doing: str) -> Iterator[None]:
    """Show what is being done and for how long; where there is no terminal, in a line now and then."""
    console, started, done = progress_console(), time.monotonic(), threading.Event()
    if console.is_terminal:
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True) as bar:
            bar.add_task(doing)
            yield
        return

    def watch() -> None:
        while not done.wait(LINE_EVERY):
            print_plain(console, f"{doing}: {(time.monotonic() - started) / 60:.0f} min so far")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class ProgressBar:
    """A bar that counts in a unit, and is stopped at the end of a `with` block.

    Where the console is no terminal, it prints a line now and then instead.
    """

    def __init__(self, unit: str, console: Console) -> None:
        self._unit, self._last_line = unit, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.live.is_started:  # stopping another one would print an empty line
            self._bar.stop()

    def _start(self) -> None:
        if self._bar.console.is_terminal:
            self._bar.start()

    def _update(self, line: TaskID, **changes: Any) -> None:
        """Move the bar; see `Progress.update`."""
        self._bar.update(line, **changes)
        if self._bar.console.is_terminal or time.monotonic() - self._last_line < LINE_EVERY:
            return
        self._last_line = time.monotonic()
        task = self._bar.tasks[0]
        more = f" ({task.description})" if task.description else ""
        print_plain(self._bar.console, f"{task.completed:.0f} of {task.total:.0f} {self._unit}{more}")


class EpochBar(ProgressBar):
    """Shows how many epochs of a run are done, read from the record that it writes.

    A note is printed once the work has begun, and so not before an error in the words of the command.
    """

    def __init__(self, console: Console, folder: Path, epochs: int, note: str | None = None) -> None:
        super().__init__("epochs", console)
        self._folder, self._note = folder, note
        self._stop = threading.Event()
        self._line = self._bar.add_task("", total=epochs)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        if error[0] is None:
            self._print_note()
        super().__exit__(*error)

    def _print_note(self) -> None:
        if self._note is not None:
            print_plain(self._bar.console, self._note)
            self._note = None

    def _watch(self) -> None:
        # The first wait comes before the bar, so that a run that fails early shows none.
        while not self._stop.wait(INTERVAL):
            self._print_note()
            self._start()
            self._update(self._line, completed=epochs_done(self._folder))
