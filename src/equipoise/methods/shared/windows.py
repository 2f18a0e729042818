"""Methods that act in a window of epochs and are joint training outside it."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.methods.core.method import Method
from equipoise.methods.core.run import Plan, Run


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
        """Whether the method acts in the run's present epoch."""
        return self.start_epoch <= run.epoch <= self.last_epoch(run.total_epochs)

    def last_epoch(self, epochs: int) -> int:
        """Return the last epoch in which the method acts, in a training of `epochs` epochs."""
        return epochs - 1 if self.end_epoch is None else self.end_epoch

    def problems(self, plan: Plan) -> list[str]:
        """Warn that the window never opens; an `end_epoch` below `start_epoch` is taken as intended."""
        found, last = super().problems(plan), min(self.last_epoch(plan.epochs), plan.epochs - 1)
        intended = self.end_epoch is not None and self.end_epoch < self.start_epoch
        if plan.epochs and not intended and self.start_epoch > last:
            found.append(
                f"{self.name} acts from epoch {self.start_epoch} on, and its last epoch would be {last} of "
                f"{plan.epochs}: it never acts. Lower start_epoch, raise end_epoch, or train longer."
            )
        return found
