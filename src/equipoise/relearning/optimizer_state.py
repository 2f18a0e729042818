"""What happens to an optimiser when weights are changed behind its back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from equipoise.types import UnknownNameError

OPTIMIZER_POLICIES: Final = ("keep", "zero", "scale")


@torch.no_grad()
def settle_optimizer_state(
    optimizer: Optimizer, strengths: Mapping[nn.Parameter, float], policy: str = "keep"
) -> None:
    """Adapt momentum buffers and moments of re-learnt parameters; those of strength 0 stay untouched.

    Args:
        optimizer: any torch optimiser.
        strengths: parameter to the strength it was re-learnt with.
        policy: `keep` (the official code), `zero` (buffers, moments and step counts start again), or `scale`
            (buffers and moments times `1 - strength`).

    Raises:
        UnknownNameError: the policy does not exist.
    """
    if policy not in OPTIMIZER_POLICIES:
        raise UnknownNameError("policy for the optimiser state", policy, OPTIMIZER_POLICIES)
    if policy == "keep":
        return
    for parameter, strength in strengths.items():
        if strength > 0 and parameter in optimizer.state:
            _settle(optimizer.state[parameter], parameter, strength, policy)


def _settle(state: dict[str, Any], parameter: nn.Parameter, strength: float, policy: str) -> None:
    for key, value in state.items():
        if key == "step":  # a tensor without dimensions, as some parameters are
            if policy == "zero":
                # A first moment of zero with a late step count would be taken for a converged one.
                state[key] = torch.zeros_like(value) if isinstance(value, Tensor) else 0
        elif isinstance(value, Tensor) and value.shape == parameter.shape and value.is_floating_point():
            value.mul_(0.0 if policy == "zero" else 1 - strength)


class LearningRateRewarm:
    """Raise the learning rate linearly over some steps after a re-learning.

    It acts inside `optimizer.step` only: before the step each group's rate is scaled, behind it the rate is
    put back, so that schedulers never see a difference.
    """

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        self.steps, self.done = steps, steps
        self._rates: list[Any] = []
        self._handles: list[RemovableHandle] = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._behind),
        ]

    def start(self) -> None:
        """Begin again at `1 / steps` of the learning rate."""
        self.done = 0

    def remove(self) -> None:
        """Leave the optimiser alone from now on."""
        for handle in self._handles:
            handle.remove()

    def _before(self, optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        self._rates = [group["lr"] for group in optimizer.param_groups]
        if self.done < self.steps:
            self.done += 1
            _set_rates(optimizer, (rate * self.done / self.steps for rate in self._rates))

    def _behind(self, optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        _set_rates(optimizer, self._rates)


def _set_rates(optimizer: Optimizer, rates: Iterable[Any]) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
