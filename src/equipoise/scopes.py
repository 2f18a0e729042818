"""Context managers for forward passes without side effects: evaluation mode, constant parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from equipoise.types import UsageError


@contextmanager
def modes_restored(module: nn.Module) -> Iterator[None]:
    """Restore the mode of every submodule after the block.

    `module.train()` would also switch submodules that the user keeps in evaluation mode, for instance frozen
    batch normalisation.
    """
    if not hasattr(module, "modules"):
        raise UsageError(f"the model is a {type(module).__name__}; expected a torch module.")
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run a block with the module in evaluation mode, then restore the modes."""
    with modes_restored(module):
        module.eval()
        yield


@contextmanager
def constant(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Treat `parameters` as constants in the block: a backward pass gives them no gradients."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
