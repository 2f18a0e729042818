"""The state of an optimiser after weights were changed outside of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import ASGD, LBFGS, SGD, Adagrad, NAdam, Optimizer, Rprop

from equipoise.types import UsageError, check_known

OPTIMIZER_POLICIES: Final = ("keep", "zero", "scale")
Optimizers = Optimizer | Sequence[Optimizer]

_Group = Mapping[str, Any]
_BEGINNINGS: Final[Mapping[type[Optimizer], Mapping[str, float | str]]] = {
    NAdam: {"mu_product": 1.0},
    Adagrad: {"sum": "initial_accumulator_value"},
    Rprop: {"step_size": "lr"},
    ASGD: {"eta": "lr", "mu": 1.0},
}
"""Initial values of states that do not start at 0: a number, or an option of the parameter's group."""
_NO_MOMENTS: Final = ("step", "mu_product", "step_size", "prev", "eta", "mu", "ax")
"""States that do not accumulate gradients, so that scaling them makes no sense."""


@torch.no_grad()
def settle_optimizer_state(
    optimizer: Optimizers, strengths: Mapping[nn.Parameter, float], policy: str = "keep"
) -> None:
    """Adapt momentum buffers and moments of re-learnt parameters; those of strength 0 are unchanged.

    `scale` multiplies the averages of past gradients (momentum buffers, first and second moments) by
    `1 - strength`. Adam's bias correction needs a step count that matches: the count is set back to the
    `t'` at which the second moment `v` has that weight, `1 - beta2^t' = (1 - strength) * (1 - beta2^t)`. The
    corrected `v` is then unchanged, the corrected first moment is about `1 - strength` of what it was, and
    new gradients count sooner. With the old count, `v` would look like a measurement of small gradients, and
    the next steps would be up to `1 / sqrt(1 - strength)` times too long; `(1 - strength)^2` makes that
    worse. At strength 1 `scale` equals `zero`. Setting back the count where the loss changes is the idea of
    Adam-Rel (Ellis et al., NeurIPS 2024, arXiv 2412.17113); clearing the moments that of Asadi et al.
    (NeurIPS 2023, arXiv 2306.17833).

    Args:
        optimizer: torch optimiser, or several. Fused, foreach and capturable variants are changed in place.
        strengths: parameter to the strength it was re-learnt with.
        policy: `keep` (the official code), `zero` (everything as before the first step), or `scale`.

    Raises:
        UnknownNameError: the policy does not exist.
        UsageError: the optimiser has a state that cannot be scaled, or that is not kept by parameter.
    """
    check_known("policy for the optimiser state", [policy], OPTIMIZER_POLICIES)
    if policy == "keep":
        return
    for one in as_optimizers(optimizer):
        if isinstance(one, LBFGS):
            raise UsageError(
                f"optimizer_state={policy!r}, but LBFGS keeps one history for all parameters; expected "
                "'keep', or another optimiser."
            )
        for group in one.param_groups:
            for parameter in group["params"]:
                strength = strengths.get(parameter, 0.0)
                if strength == 0 or not one.state.get(parameter):
                    continue
                if policy == "scale" and strength < 1:
                    _scale(one, group, one.state[parameter], strength)
                elif _is_of_torch(one):
                    _begin(one, group, one.state[parameter])
                else:  # the initial values of its states are unknown here
                    del one.state[parameter]


def as_optimizers(optimizer: Optimizers | None) -> list[Optimizer]:
    """Return optimisers without the wrappers of accelerate, Lightning and Fabric."""
    given = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer or ())
    return [_raw(one) for one in given]


def _raw(optimizer: Optimizer) -> Optimizer:
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


def _is_of_torch(optimizer: Optimizer) -> bool:
    return any(f"{kind.__module__}.".startswith("torch.optim.") for kind in type(optimizer).mro()[:-2])


def _begin(optimizer: Optimizer, group: _Group, state: dict[str, Any]) -> None:
    """Reset a state to its value before the first step."""
    beginnings = next((found for kind, found in _BEGINNINGS.items() if isinstance(optimizer, kind)), {})
    for key, value in state.items():
        first = beginnings.get(key, 0.0)
        first = float(group[first]) if isinstance(first, str) else first
        if isinstance(optimizer, SGD) and group["dampening"]:
            state[key] = None  # its first buffer is a whole gradient, not a dampened one
        elif isinstance(value, Tensor):
            value.fill_(first)
        elif isinstance(value, int | float):
            state[key] = type(value)(first)


def _scale(optimizer: Optimizer, group: _Group, state: dict[str, Any], strength: float) -> None:
    for key, value in state.items():
        if isinstance(value, Tensor) and value.ndim and not value.is_floating_point():
            raise UsageError(
                f"optimizer_state='scale', but {type(optimizer).__name__} keeps {key!r} as {value.dtype}; "
                "expected numbers that can be scaled: use 'keep' or 'zero'."
            )
    beta = float(group["betas"][1]) if "exp_avg_sq" in state and "betas" in group else 0.0
    for key, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point() and key not in _NO_MOMENTS:
            value.mul_(1 - strength)
    if 0 < beta < 1 and "step" in state:
        step = state["step"]
        count = torch.as_tensor(step, dtype=torch.float64)
        weight = (1 - strength) * -torch.expm1(count * math.log(beta))
        earlier = torch.log1p(-weight) / math.log(beta)
        if isinstance(step, Tensor):
            step.copy_(earlier)
        else:
            state["step"] = max(1, round(float(earlier)))


class LearningRateRewarm:
    """Raise the learning rate linearly over some steps after a re-learning.

    It acts inside `optimizer.step` only: each group's rate is scaled before the step and restored after it,
    so that schedulers see no difference.
    """

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        self.steps, self.done = steps, steps
        self._rates: list[Any] = []
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    def start(self) -> None:
        """Restart at `1 / steps` of the learning rate."""
        self.done = 0

    def _before(self, optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        if self._rates:  # in the step of a subclass that calls its parent's step
            return
        rates = [group["lr"] for group in optimizer.param_groups]
        self._rates = [rate.clone() if isinstance(rate, Tensor) else rate for rate in rates]
        if self.done < self.steps:
            self.done += 1
            _set_rates(optimizer, (rate * self.done / self.steps for rate in self._rates))

    def _after(self, optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        if self._rates:
            _set_rates(optimizer, self._rates)
            self._rates = []


def _set_rates(optimizer: Optimizer, rates: Iterable[Any]) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        set_rate(group, rate)


def set_rate(group: dict[str, Any], rate: Any) -> None:
    """Set the learning rate of a group of parameters, in place where it is a tensor."""
    if isinstance(group["lr"], Tensor):  # compiled optimisers keep a reference to it
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate
