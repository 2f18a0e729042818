"""Loss scaling, which keeps the small gradients of 16-bit floats from becoming zero."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from equipoise.methods import Method
from equipoise.training.settings import SCALED, Budget
from equipoise.types import UsageError


class LossScaling:
    """The loss scaling of a run; without the precision `16-mixed` it does nothing.

    The loss is multiplied by a large factor before the backward pass. The gradients are divided by it right
    after, so that methods and clipping see those of the loss. Where one is not finite, the optimiser skips
    the step, and the factor is halved (`torch.amp.GradScaler`).

    Args:
        precision: fabric's plugin, which multiplies the loss and takes the step.
        optimizer: the optimiser of torch, without wrappers.

    Attributes:
        active: whether losses are scaled.
        overflowed: whether a gradient of the last backward pass is not finite.
        skipped: steps that were skipped since `start_epoch`.
    """

    def __init__(self, precision: Any, optimizer: Optimizer) -> None:
        self.active = getattr(precision, "scaler", None) is not None
        self.overflowed, self.skipped = False, 0
        self._precision, self._optimizer = precision, optimizer

    def start_epoch(self) -> None:
        """Count skipped steps from zero."""
        self.skipped = 0

    def unscale(self) -> None:
        """Divide the gradients of a backward pass by the factor."""
        if not self.active:
            return
        self._precision.unscale_gradients(self._optimizer)
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        finite = [torch.isfinite(p.grad).all() for p in parameters if p.grad is not None]
        self.overflowed = bool(finite) and not bool(torch.stack(finite).all())
        self.skipped += self.overflowed

    def counted(self) -> dict[str, int]:
        """Return what the record says of an epoch: its skipped steps, where losses are scaled."""
        return {"skipped_steps": self.skipped} if self.active else {}

    def state_dict(self) -> dict[str, Any]:
        """Return the factor, and the steps since it was changed."""
        state: dict[str, Any] = self._precision.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the factor."""
        self._precision.load_state_dict(state)


def check_scaling(method: Method, budget: Budget) -> None:
    """Refuse a method that takes gradients past the scaled loss, if the loss is to be scaled.

    Raises:
        UsageError: it does; says what to choose instead.
    """
    if budget.precision != SCALED:
        return
    for member in method.members():
        if member.own_gradients():
            raise UsageError(
                f"the method {member.name!r} takes gradients that loss scaling does not reach, and with "
                f"precision={SCALED!r} small ones would be zero; choose bf16-mixed or 32-true."
            )
