"""What the loggers of a user-defined loop get of a method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from equipoise.tracking.outlets import Logger, Outlets
from equipoise.tracking.series import series


class EpochLog:
    """Logs, once an epoch, means over its steps and the events of the method; see `Outlets` for the argument.

    Numbers stay on their device until the epoch ends.
    """

    def __init__(self, log: Logger | Sequence[Logger] | None) -> None:
        self._outlets = Outlets(log)
        self._sums: dict[str, tuple[Tensor | float, int]] = {}

    def add(self, values: Mapping[str, Tensor | float], prefix: str) -> None:
        """Add the numbers of a step to the means; without a logger nothing is kept."""
        for name, value in values.items() if self._outlets else ():
            before, count = self._sums.get(f"{prefix}{name}", (0.0, 0))
            self._sums[f"{prefix}{name}"] = before + value, count + 1

    def ended(self, epoch: int, events: Iterable[Mapping[str, Any]]) -> None:
        """Log an epoch, with those of the events that are its own."""
        found = {name: float(value) / count for name, (value, count) in self._sums.items()}
        for event in events if self._outlets else ():
            if event["epoch"] == epoch:
                found |= series(event)
        self._sums = {}
        self._outlets.log(found, epoch)
