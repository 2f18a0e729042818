"""Methods that act in a window of epochs and are joint training outside it."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.methods.base import Method
from equipoise.methods.run import Run


@dataclass
class Windowed(Method):
    """A method with a window of epochs.

    Attributes:
        start_epoch: first epoch (0-based) in which the method acts.
        end_epoch: last such epoch; None is the last of training.
    """

    start_epoch: int = 0
    end_epoch: int | None = None

    def in_window(self, run: Run) -> bool:
        """Tell whether the method acts in the run's present epoch."""
        last = run.total_epochs - 1 if self.end_epoch is None else self.end_epoch
        return self.start_epoch <= run.epoch <= last
