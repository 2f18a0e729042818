"""Which of an encoder's parameters are re-learnt: all, all but norms, adapters, or the last blocks."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from equipoise.types import MissingExtraError, ModelError, UnknownNameError, UsageError, check_known

SELECTIONS: Final = ("all", "no-norm", "adapters", "trainable", "last:N")
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def selection_by_modality(parameters: str | Mapping[str, str], modalities: Iterable[str]) -> dict[str, str]:
    """Return the selection of each modality; `all` where `parameters` leaves one out.

    Raises:
        UnknownNameError: `parameters` names a modality that does not exist.
    """
    if isinstance(parameters, str):
        return dict.fromkeys(modalities, parameters)
    names = list(modalities)
    check_known("modality of parameters", parameters, names)
    return {name: parameters.get(name, "all") for name in names}


def select_parameters(module: nn.Module, selection: str = "all") -> list[str]:
    """Return the names of the selected parameters; frozen ones are never among them.

    Args:
        module: the encoder.
        selection: `all` that require a gradient (the paper, whose encoders have no others), or of those:
            `no-norm` leaves out scale and shift of normalisation layers; `adapters` takes what `peft` has
            added to the encoder; `last:N` takes the last N blocks with parameters, see `block_names`.
            `trainable` is a synonym of `all`.

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
    """Return the names of the buffers that belong to a selection.

    All of them; with `last:N` those of these blocks; with `adapters` none.
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


def block_names(module: nn.Module) -> list[str]:
    """Return the names of the blocks with parameters, in the order of their registration.

    A block is a child of the encoder. Containers of layers (`Sequential`, `ModuleList`) are replaced by their
    layers, and so is a child with such a list deeper inside, as in encoders of `transformers` and `peft`.
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
    """Return the number of blocks above the block of each named parameter or buffer: 0 for the topmost.

    Blocks without a selected parameter are not counted. What is outside all blocks (a class token, position
    embeddings) is as deep as the lowest block.
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


def adapter_parameters(module: nn.Module) -> list[str]:
    """Return the names of the parameters of adapters, in the encoder's order.

    These are the parameters that `peft` has added to layers (such as LoRA's `A`, `B` and DoRA's magnitudes),
    its trainable copies of whole layers (`modules_to_save`), and learned prompts. They are recognised by the
    classes of `peft`, never by names.

    Raises:
        MissingExtraError: `peft` is not installed.
        ModelError: there is no adapter in the encoder.
    """
    own = {id(parameter) for parameter in _parameters_of_adapters(module)}
    names = [name for name, parameter in module.named_parameters() if id(parameter) in own]
    if not names:
        raise ModelError(
            f"{type(module).__name__} has no adapter of peft; expected an encoder wrapped by "
            "peft.get_peft_model before the re-learning is set up."
        )
    return names


def refuse_merged(module: nn.Module, what: str) -> None:
    """Check that no adapter is merged into the weights it adapts.

    The forward pass does not use a merged adapter: blending it would have no effect now, and would corrupt
    the adapted weights when it is unmerged.

    Raises:
        ModelError: an adapter is merged; `what` names the encoder.
    """
    merged = [name for name, layer in module.named_modules() if _is_tuner(layer) and layer.merged]
    if merged:
        raise ModelError(
            f"{what} has {len(merged)} adapters that are merged into the weights, first that of "
            f"{merged[0]!r}; expected separate ones: call unmerge_adapter() before training."
        )


def _is_tuner(layer: Any) -> bool:
    if "peft" not in sys.modules:  # without it there is no adapter
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(layer, BaseTunerLayer)


def _parameters_of_adapters(module: nn.Module) -> Iterator[nn.Parameter]:
    if "peft" not in sys.modules:
        if importlib.util.find_spec("peft") is None:
            raise MissingExtraError("peft", "transformers", "parameters='adapters'")
        return
    from peft import PeftModel
    from peft.utils.other import AuxiliaryTrainingWrapper

    for layer in module.modules():
        parts: list[object] = []
        if _is_tuner(layer) or isinstance(layer, AuxiliaryTrainingWrapper):
            names = cast("Iterable[str]", layer.adapter_layer_names)
            parts = [getattr(layer, name, None) for name in names]
        elif isinstance(layer, PeftModel):
            parts = [getattr(layer, "prompt_encoder", None)]
        for part in parts:
            if isinstance(part, nn.Module):
                yield from part.parameters()
            elif isinstance(part, nn.Parameter):
                yield part
