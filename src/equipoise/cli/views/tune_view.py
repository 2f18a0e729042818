"""The live view of a tuning: how many trials have ended, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from equipoise.cli.progress import ProgressBar
from equipoise.cli.tables import number, print_plain

if TYPE_CHECKING:  # the command line shows its help without loading torch
    from equipoise.experiments.tune.trial import Ended


class TuneView(ProgressBar):
    """Shows the progress of a tuning; an `Observer` of it.

    On a terminal it is a bar, and a line stays of each trial that failed. Elsewhere there is a line for each
    trial. The `note` is printed once the work has begun, and so not before an error of use.
    """

    def __init__(self, console: Console, note: str | None = None) -> None:
        super().__init__("trials", console)
        self._note = note
        self._total = self._ended = 0
        self._line = self._bar.add_task("", total=None)

    def planned(self, trials: int, done: int) -> None:
        """Start with the trials that were done before."""
        self._total, self._ended = trials, done
        console = self._bar.console
        if self._note is not None:
            print_plain(console, self._note)
        if not console.is_terminal:
            before = f", {done} of them ended before" if done else ""
            print_plain(console, f"{trials} {'trials' if trials > 1 else 'trial'}{before}")
        self._bar.update(self._line, total=trials, completed=done)
        self._start()

    def ended(self, trial: Ended) -> None:
        """Count a trial, and print a line where there is no terminal, or it failed."""
        self._ended += 1
        console = self._bar.console
        self._bar.update(self._line, completed=self._ended, description=trial.method)
        if trial.cause or not console.is_terminal:
            how = number(trial.value) if trial.value is not None else trial.state
            how = f"{trial.state}: {trial.cause}" if trial.cause else how
            of = f"{self._ended} of {self._total} trials"
            print_plain(console, f"{of}: {trial.method}, trial {trial.place}: {how}")
