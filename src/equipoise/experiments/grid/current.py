"""Reports of comparisons that go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from equipoise.experiments.compare.comparison import Comparison
from equipoise.experiments.grid.cell import PlannedCell
from equipoise.experiments.grid.jobs import Outcome
from equipoise.files.untrusted import first_line
from equipoise.types import UsageError, warn


class CurrentReports:
    """Writes the report of a comparison after every few of its runs that have ended.

    Args:
        every: the number of runs between two reports.
        write: writes the report of what there is.

    Raises:
        UsageError: `every` is below 1.
    """

    def __init__(self, every: int, write: Callable[[Comparison], object]) -> None:
        if not (hasattr(every, "__index__") and every >= 1):
            raise UsageError(f"report_every is {every!r}; expected a whole number of runs of at least 1.")
        self._every, self._write = every, write
        self._ended: Counter[str] = Counter()
        self._failed = False

    def ended(self, cell: PlannedCell, outcomes: Mapping[Path, Outcome]) -> None:
        """Note that a run of a comparison has ended; a report that fails does not end the comparison."""
        self._ended[cell.name] += 1
        if self._ended[cell.name] % self._every and not cell.complete(outcomes):
            return
        try:
            if (comparison := cell.so_far(outcomes)) is not None:
                self._write(comparison)
        except Exception as error:
            if not self._failed:
                warn(
                    f"the report could not be brought up to date ({first_line(error)}); the comparison goes "
                    "on. See to its disk; 'equipoise report' writes it again."
                )
            self._failed = True
