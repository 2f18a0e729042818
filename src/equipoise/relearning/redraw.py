"""A fresh draw of an encoder's weights, by whatever initialises each of its layers."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.distributed import is_sharded
from equipoise.randomness import seeded_rng
from equipoise.relearning.reinitialize import check_state
from equipoise.types import ModelError

Factory = Callable[[], nn.Module]
"""Builds a module like the encoder, with fresh weights from torch's global random stream."""


def redrawn_state(
    module: nn.Module, seed: int, *, needed: Collection[str] | None = None, factory: Factory | None = None
) -> dict[str, Tensor]:
    """Return the state of a copy of `module` whose parameters were initialised anew from `seed`.

    Layers are drawn by their `reset_parameters()`, the layers of a model of `transformers` by the model's
    own initialisation, which knows its tokens and position embeddings too, and the adapters of `peft` by
    `peft`. That nothing was left out is checked number by number. What none of them draws needs a factory.

    Args:
        module: the encoder; it is not changed.
        seed: of the draw.
        needed: names of the parameters that have to be drawn, None for all; the others may stay as they are.
        factory: builds a module like this one with fresh weights, in place of all of the above.

    Raises:
        ModelError: a parameter that is needed cannot be drawn anew, or the factory's module does not fit.
    """
    if factory is not None:
        return _from_factory(module, seed, needed, factory)
    if any(is_sharded(parameter) for parameter in module.parameters()):
        raise ModelError(
            f"the weights of {type(module).__name__} are sharded, and no process holds a whole layer to "
            "draw; give a factory in redraw_with, or use target='init'."
        )
    # On the CPU, so that every device draws the same.
    fresh = copy.deepcopy(module).cpu()
    held = {name: value.clone() for name, value in fresh.state_dict().items()}
    with torch.no_grad():
        for parameter in fresh.parameters():
            if parameter.is_floating_point() or parameter.is_complex():
                parameter.fill_(math.nan)
    with seeded_rng(seed), torch.no_grad():
        # From the inside out, as constructors do: attention initialises its parts once more.
        for layer in reversed(list(fresh.modules())):
            reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
            if callable(reset):
                reset()
        _draw_as_transformers_does(fresh)
        _draw_adapters(fresh)
    left = {name for name, parameter in fresh.named_parameters() if bool(parameter.isnan().any())}
    _refuse(module, sorted(left if needed is None else left & set(needed)))
    state = {name: value.detach().cpu() for name, value in fresh.state_dict().items()}
    return {name: held[name] if bool(value.isnan().any()) else value for name, value in state.items()}


def _from_factory(
    module: nn.Module, seed: int, needed: Collection[str] | None, factory: Factory
) -> dict[str, Tensor]:
    with seeded_rng(seed), torch.device("cpu"):
        fresh: object = factory()
    if not isinstance(fresh, nn.Module):
        raise ModelError(f"the factory gave a {type(fresh).__name__}; expected a module like the encoder.")
    state = {name: value.detach().to("cpu", copy=True) for name, value in fresh.state_dict().items()}
    named = dict(module.named_parameters())
    wanted = {name: named[name] for name in (named if needed is None else needed)}
    check_state(wanted, state, type(module).__name__)
    return state


def _draw_as_transformers_does(fresh: nn.Module) -> None:
    if "transformers" not in sys.modules:  # then no layer is one of its
        return
    from transformers import PreTrainedModel

    for part in fresh.modules():
        # It skips what it believes to be loaded.
        part.__dict__.pop("_is_hf_initialized", None)
        for tensor in (*part.parameters(recurse=False), *part.buffers(recurse=False)):
            tensor.__dict__.pop("_is_hf_initialized", None)
    inner: set[int] = set()
    for part in fresh.modules():
        if isinstance(part, PreTrainedModel) and id(part) not in inner:
            inner |= {id(child) for child in part.modules()}
            drawn: Any = part  # untyped in transformers
            drawn.initialize_weights()


def _draw_adapters(fresh: nn.Module) -> None:
    if "peft" not in sys.modules:
        return
    from peft.tuners.lora import LoraLayer

    for layer in fresh.modules():
        if isinstance(layer, LoraLayer):
            for name in (*layer.lora_A, *layer.lora_embedding_A):
                layer.reset_lora_parameters(name, True)  # type: ignore[no-untyped-call]


def _refuse(module: nn.Module, left: list[str]) -> None:
    if not left:
        return
    owner = left[0].rpartition(".")[0]
    layer = module.get_submodule(owner)
    raise ModelError(
        f"{left[0]!r} of {owner or type(layer).__name__!r} ({type(layer).__name__}) cannot be drawn anew: no "
        "reset_parameters() draws it; add that method, give a factory in redraw_with, or use target='init'."
    )
