"""What an encoder is pulled back to besides its start: a moving average, or weights that it was given."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from equipoise.distributed import is_sharded, own_part, whole

ORIGIN = "loaded_weights"
"""Attribute of an encoder that tells of the file its weights came from, as the toolkit's encoders have it."""


def weights_origin(module: nn.Module) -> str | None:
    """Return where an encoder's weights came from before training, or None where nothing tells of it.

    The attribute `loaded_weights` of the encoder or of a part of it counts, and so does a model of
    `transformers` that was loaded from a folder; one that was built from a configuration has drawn weights.
    """
    for part in module.modules():
        if origin := getattr(part, ORIGIN, None):
            return str(origin)
    if "transformers" in sys.modules:
        from transformers import PreTrainedModel

        for part in module.modules():
            if isinstance(part, PreTrainedModel) and part.name_or_path:
                return str(part.name_or_path)
    return None


@torch.no_grad()
def update_average(average: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    """Move an exponential average in place: `decay * average + (1 - decay) * current`."""
    for name, value in _floating(module.state_dict()).items():
        # An average that was loaded from a checkpoint is whole.
        held, new = own_part(average[name]), own_part(value) if is_sharded(average[name]) else whole(value)
        held.lerp_(new.detach().to(held.device), 1 - decay)


def _floating(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if value.is_floating_point()}
