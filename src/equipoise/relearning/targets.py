"""What an encoder is pulled back to: its start, a fresh draw, given weights, or its own moving average."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from equipoise.randomness import seeded_rng
from equipoise.types import ModelError


def redrawn_state(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Return the state of a copy of `module` whose layers were initialised anew from `seed`.

    Raises:
        ModelError: a layer holds parameters of its own and has no `reset_parameters`.
    """
    # On the CPU, so that every device draws the same.
    fresh = copy.deepcopy(module).cpu()
    with seeded_rng(seed):
        # From the inside out, as constructors do: attention initialises its parts once more.
        for name, layer in reversed(list(fresh.named_modules())):
            reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
            if callable(reset):
                reset()
            elif any(True for _ in layer.parameters(recurse=False)):
                raise ModelError(
                    f"{name or type(layer).__name__!r} ({type(layer).__name__}) cannot be drawn anew: it has "
                    "parameters and no reset_parameters(); add that method, or use target='init'."
                )
    return {name: value.detach().cpu() for name, value in fresh.state_dict().items()}


@torch.no_grad()
def update_average(average: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    """Move an exponential average in place: `decay * average + (1 - decay) * current`."""
    for name, value in _floating(module.state_dict()).items():
        average[name].lerp_(value.detach().to(average[name].device), 1 - decay)


def _floating(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if value.is_floating_point()}
