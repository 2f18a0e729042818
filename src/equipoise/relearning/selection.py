"""Which of an encoder's parameters take part in re-learning."""

from __future__ import annotations

from typing import Final

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from equipoise.relearning.adapters import adapter_parameters
from equipoise.relearning.blocks import block_names
from equipoise.types import UnknownNameError, UsageError

SELECTIONS: Final = ("all", "no-norm", "adapters", "trainable", "last:N")
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def select_parameters(module: nn.Module, selection: str = "all") -> list[str]:
    """Return the names of the parameters that a selection means; frozen ones are never among them.

    Args:
        module: the encoder.
        selection: `all` that require a gradient (the paper, whose encoders have no others), or of those:
            `no-norm` leaves out scale and shift of normalisation layers; `adapters` takes what `peft` has
            added to the encoder; `last:N` takes the last N blocks that hold parameters, see `block_names`.
            `trainable` is another word for `all`.

    Raises:
        UnknownNameError: the selection does not exist.
        UsageError: `last:N` asks for more blocks than there are.
        ModelError: `adapters`, and there is none.
        MissingExtraError: `adapters`, and `peft` is not installed.
    """
    trainable = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    kind, _, number = selection.partition(":")
    if selection in ("all", "trainable"):
        return trainable
    if selection == "no-norm":
        chosen = _outside_norms(module)
    elif selection == "adapters":
        chosen = set(adapter_parameters(module))
    elif kind == "last" and number.isdecimal() and int(number) > 0:
        blocks = _last_blocks(module, int(number))
        chosen = {name for name in trainable if name.startswith(blocks)}
    else:
        raise UnknownNameError("selection of parameters", selection, SELECTIONS)
    return [name for name in trainable if name in chosen]


def select_buffers(module: nn.Module, selection: str = "all") -> list[str]:
    """Return the names of the buffers that go with a selection.

    All of them, or those of the blocks with `last:N`, or none with `adapters`, which have none.
    """
    named = [name for name, _ in module.named_buffers()]
    if selection == "adapters":
        return []
    if not selection.startswith("last:"):
        return named
    blocks = _last_blocks(module, int(selection.partition(":")[2]))
    return [name for name in named if name.startswith(blocks)]


def _outside_norms(module: nn.Module) -> set[str]:
    norm = {
        id(parameter)
        for part in module.modules()
        if isinstance(part, _NORMS)
        for parameter in part.parameters(recurse=False)
    }
    return {name for name, parameter in module.named_parameters() if id(parameter) not in norm}


def _last_blocks(module: nn.Module, count: int) -> tuple[str, ...]:
    blocks = block_names(module)
    if count > len(blocks):
        raise UsageError(
            f"'last:{count}' asks for more blocks than {type(module).__name__} has: {', '.join(blocks)}."
        )
    return tuple(f"{name}." for name in blocks[-count:])
