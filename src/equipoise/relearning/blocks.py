"""The blocks of an encoder, from its input to its output, and how deep each parameter lies."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


def block_names(module: nn.Module) -> list[str]:
    """Return the names of the blocks that hold parameters, in the order of their registration.

    A block is a child of the encoder. A mere container of layers (`Sequential`, `ModuleList`) is opened, and
    so is a child that holds such a list of layers further inside, as the encoders of `transformers` and of
    `peft` do; the layers of a list are blocks themselves, whatever they hold.
    """
    return _blocks(module, "", in_stack=False)


def _blocks(module: nn.Module, prefix: str, *, in_stack: bool) -> list[str]:
    found = []
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            found += _blocks(child, f"{prefix}{name}.", in_stack=True)
        elif not in_stack and _holds_stack(child):
            found += _blocks(child, f"{prefix}{name}.", in_stack=False)
        elif any(True for _ in child.parameters()):
            found.append(f"{prefix}{name}")
    return found


def _holds_stack(module: nn.Module) -> bool:
    return any(
        isinstance(part, nn.ModuleList) and any(True for _ in part.parameters()) for part in module.modules()
    )


def depths_from_top(module: nn.Module, selected: Iterable[str], names: Iterable[str]) -> dict[str, int]:
    """Return how many blocks lie above the one of each named parameter or buffer: 0 for the topmost.

    Args:
        module: the encoder.
        selected: names of the parameters that take part; blocks without any do not count.
        names: the parameters and buffers that are asked for. Those of the encoder itself, outside all blocks
            (a class token, position embeddings), lie as deep as the lowest block.
    """
    chosen = list(selected)
    counted = [block for block in block_names(module) if any(name.startswith(f"{block}.") for name in chosen)]
    lowest = max(len(counted) - 1, 0)
    above = {block: lowest - place for place, block in enumerate(counted)}
    depths = {}
    for name in names:
        owner = next((block for block in counted if name.startswith(f"{block}.")), None)
        depths[name] = lowest if owner is None else above[owner]
    return depths
