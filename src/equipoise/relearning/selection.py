"""Which of an encoder's parameters take part in re-learning."""

from __future__ import annotations

from typing import Final

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from equipoise.types import UnknownNameError, UsageError

SELECTIONS: Final = ("all", "no-norm", "trainable", "last:N")
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def select_parameters(module: nn.Module, selection: str = "all") -> list[str]:
    """Return the names of the parameters that a selection means.

    Args:
        module: the encoder.
        selection: `all` (the paper); `no-norm` leaves out scale and shift of normalisation layers;
            `trainable` takes what requires a gradient (the adapters of a frozen encoder, say); `last:N` takes
            the last N blocks that hold parameters: the children of the encoder, containers of layers opened.

    Raises:
        UnknownNameError: the selection does not exist.
        UsageError: `last:N` asks for more blocks than there are.
    """
    named = dict(module.named_parameters())
    if selection == "all":
        return list(named)
    if selection == "trainable":
        return [name for name, parameter in named.items() if parameter.requires_grad]
    if selection == "no-norm":
        norm = {
            id(parameter)
            for part in module.modules()
            if isinstance(part, _NORMS)
            for parameter in part.parameters(recurse=False)
        }
        return [name for name, parameter in named.items() if id(parameter) not in norm]
    kind, _, number = selection.partition(":")
    if kind == "last" and number.isdecimal() and int(number) > 0:
        return _last_blocks(module, int(number), named)
    raise UnknownNameError("selection of parameters", selection, SELECTIONS)


def select_buffers(module: nn.Module, selection: str = "all") -> list[str]:
    """Return the names of the buffers that go with a selection: all, or with `last:N` those of the blocks."""
    named = [name for name, _ in module.named_buffers()]
    if not selection.startswith("last:"):
        return named
    blocks = _blocks(module)[-int(selection.partition(":")[2]) :]
    return [name for name in named if name.startswith(tuple(f"{block}." for block in blocks))]


def _last_blocks(module: nn.Module, count: int, named: dict[str, nn.Parameter]) -> list[str]:
    blocks = _blocks(module)
    if count > len(blocks):
        raise UsageError(
            f"'last:{count}' asks for more blocks than {type(module).__name__} has: {', '.join(blocks)}."
        )
    prefixes = tuple(f"{name}." for name in blocks[-count:])
    return [name for name in named if name.startswith(prefixes)]


def _blocks(module: nn.Module, prefix: str = "") -> list[str]:
    """Return the names of the blocks that hold parameters, in order; a mere container is no block."""
    found = []
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            found += _blocks(child, f"{prefix}{name}.")
        elif any(True for _ in child.parameters()):
            found.append(f"{prefix}{name}")
    return found
