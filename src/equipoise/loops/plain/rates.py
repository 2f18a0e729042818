"""The learning rates that a method plans, in the optimisers of a user-defined loop."""

from __future__ import annotations

from collections.abc import Sequence

from torch.optim import Optimizer

from equipoise.loops.plain.run import HandRun, own_rate
from equipoise.methods.core.method import overrides
from equipoise.relearning.optimizer_state import set_rate
from equipoise.types import warn


class PlannedRates:
    """Sets the learning rates of each epoch as a part of the user's own; nothing if the method plans none.

    The user's own rate is that before any scheduler. A scheduler may change it after each step; the method's
    is set again before the next one, with a warning.

    Attributes:
        peaks: the user's own rates, by optimiser and group.
    """

    def __init__(self, run: HandRun, optimizers: Sequence[Optimizer]) -> None:
        self._method, self._optimizers = run.method.name, list(optimizers)
        self._factors = _factors(run)
        self.peaks = [[own_rate(group) for group in one.param_groups] for one in self._optimizers]
        self._warned = False

    def set(self, epoch: int, *, begins: bool = False) -> None:
        """Set the rates of an epoch (0-based); `begins` where they are those of the one before."""
        if not self._factors:
            return
        factor = self._factors[min(epoch, len(self._factors) - 1)]
        for one, peaks in zip(self._optimizers, self.peaks, strict=True):
            for group, peak in zip(one.param_groups, peaks, strict=True):
                # A scheduler may keep the user's own rate, as the default of some trainers does.
                if not begins and float(group["lr"]) not in (peak * factor, peak):
                    self._warn(float(group["lr"]), peak * factor)
                set_rate(group, peak * factor)

    def _warn(self, found: float, own: float) -> None:
        if not self._warned:
            self._warned = True
            warn(
                f"a scheduler set the learning rate to {found:g}, and the method {self._method!r} sets it to "
                f"{own:g} again: leave the scheduler out, or give the method rates='keep' and restart the "
                "rate in each cycle yourself."
            )


def _factors(run: HandRun) -> list[float]:
    """Return the part of the user's own rate in each epoch, where the method plans it; else nothing."""
    if not any(overrides(member, "learning_rates") for member in run.method.members()):
        return []
    planned, rates = run.plan.learning_rates(), run.method.learning_rates(run.plan)
    factors = [rate / peak if peak else 1.0 for rate, peak in zip(rates, planned, strict=True)]
    return factors if any(factor != 1 for factor in factors) else []
