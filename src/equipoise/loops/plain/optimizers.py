"""The optimisers of a training by hand: the user's own, and one beside it for a method's modules."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from equipoise.types import UsageError

NOT_OPTIONS = ("params", "name", "initial_lr", "factor")


def like(optimizer: Optimizer, parameters: Iterable[Any]) -> Optimizer:
    """Return another optimiser of the same kind and options, those of its first group.

    Raises:
        UsageError: its constructor takes something else.
    """
    first = optimizer.param_groups[0]
    options = {key: value for key, value in first.items() if key not in NOT_OPTIONS}
    taken = inspect.signature(type(optimizer)).parameters
    known = {key: value for key, value in options.items() if key in taken}
    try:
        return type(optimizer)(parameters, **known)
    except TypeError as error:
        raise UsageError(
            f"a second {type(optimizer).__name__} for the method's own modules could not be made ({error}); "
            "give extra_optimizer=, a function from parameters to an optimiser."
        ) from error


class AllOptimizers:
    """Several optimisers as methods see one: their groups of parameters."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]


def named_group(modules: nn.Module) -> list[dict[str, Any]]:
    """Return the group `extra` of a method's modules."""
    return [{"params": list(modules.parameters()), "name": "extra", "factor": 1.0}]
