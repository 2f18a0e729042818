"""Averaged copies of a model that are to follow when its encoders are re-learnt."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel

from equipoise.distributed import unwrapped
from equipoise.types import ModelError


def copied_encoder(encoder: nn.Module, model: nn.Module, copy: nn.Module) -> nn.Module:
    """Return what stands for an encoder in an averaged copy.

    Args:
        encoder: a module inside `model`, without wrappers.
        model: the whole model.
        copy: an `AveragedModel`, or another module of the same structure: a copy of the model, of a part of
            it that holds the encoder, or of the encoder alone.

    Raises:
        ModelError: no module of the copy lies where the encoder does and has its tensors.
    """
    inside = unwrapped(copy.module if isinstance(copy, AveragedModel) else copy)
    paths = [name for name, part in unwrapped(model).named_modules() if unwrapped(part) is encoder]
    shapes = _shapes(encoder)
    for path in paths:
        parts = path.split(".")
        for start in range(len(parts) + 1):  # the copy may be one of an inner module
            try:
                found = unwrapped(inside.get_submodule(".".join(parts[start:])))
            except AttributeError:
                continue
            if type(found) is type(encoder) and _shapes(found) == shapes:
                return found
    raise ModelError(
        f"the averaged copy ({type(inside).__name__}) holds no copy of the encoder "
        f"{paths[0] if paths else type(encoder).__name__!r}; expected in ema= a copy of the model "
        f"({type(unwrapped(model)).__name__}) or of a part that holds the encoder."
    )


def _shapes(module: nn.Module) -> dict[str, object]:
    return {name: value.shape for name, value in module.state_dict().items()}
