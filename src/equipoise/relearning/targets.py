"""What an encoder is pulled toward: its initial weights, given ones, a fresh draw, or a moving average."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from equipoise.distributed import is_sharded, own_part, whole
from equipoise.files.limits import check_machine
from equipoise.randomness import seeded_rng
from equipoise.relearning.blend import check_state, snapshot
from equipoise.relearning.options import Factory, RelearnOptions
from equipoise.relearning.selection import select_buffers, selection_by_modality
from equipoise.types import ModelError, UsageError, check_known

ORIGIN: Final = "loaded_weights"
"""Attribute of the toolkit's encoders that names the file their weights were loaded from."""
SUFFIX: Final = ".safetensors"
WRAPPERS: Final = ("module.", "_orig_mod.")
"""Prefixes that wrappers for distributed training and compilation put before a module's names."""


def initial_targets(
    encoders: Mapping[str, nn.Module], choices: RelearnOptions, selected: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Tensor]]:
    """Return the state that each encoder is pulled toward, on the CPU.

    A target that cannot work is refused here, before training, not after many epochs.

    Raises:
        UnknownNameError: `target`, `redraw_with` or `only` names a modality that does not exist.
        UsageError: `target` is `pretrained`, and an encoder did not start from given weights.
        ModelError: a given state does not fit its encoder, or an encoder cannot be redrawn.
    """
    targets = {name: snapshot(encoder) for name, encoder in encoders.items()}
    given = choices.target if isinstance(choices.target, Mapping) else {}
    named = {"redraw_with": choices.redraw_with or {}, "target": given, "only": choices.only or ()}
    for option, names in named.items():
        check_known(f"modality of {option}", names, targets)
    selections = selection_by_modality(choices.parameters, encoders)
    for name, state in given.items():
        state = without_wrapper(state)
        needed = list(selected[name])
        if choices.norm_stats in ("blend", "reset"):
            buffers = select_buffers(encoders[name], selections[name])
            needed += [key for key in buffers if key in encoders[name].state_dict()]
        check_state({key: targets[name][key] for key in needed}, state, f"the encoder of {name!r}")
        targets[name] = {key: value.detach().to("cpu", copy=True) for key, value in state.items()}
    for name, encoder in encoders.items():
        if choices.target == "redraw":
            redrawn(name, encoder, choices, selected[name], 0)
        elif choices.target == "pretrained" and weights_origin(encoder) is None:
            raise UsageError(
                f"target='pretrained', but nothing shows that the encoder of {name!r} "
                f"({type(encoder).__name__}) started from given weights; load them first, or use "
                "target='init', which blends toward the weights the encoders have now."
            )
    return targets


def weights_origin(module: nn.Module) -> str | None:
    """Return where an encoder's weights were loaded from before training, or None where that is unknown.

    Known are the attribute `loaded_weights` of the encoder or of a part of it, and a model of `transformers`
    that was loaded from a folder; a model built from a configuration has random weights.
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


def without_wrapper(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state without the prefixes of wrappers around the whole module."""
    plain = dict(state)
    while prefix := next((w for w in WRAPPERS if plain and all(name.startswith(w) for name in plain)), None):
        plain = {name.removeprefix(prefix): tensor for name, tensor in plain.items()}
    return plain


def with_target_file(options: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, Any]:
    """Return options in which `target`, where it is the path of a file, is replaced by the file's tensors.

    Raises:
        UsageError: the file cannot be read, or holds a name that begins with no modality.
    """
    path = options.get("target")
    if not (isinstance(path, str) and path.endswith(SUFFIX)):
        return dict(options)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        check_machine(error)
        raise UsageError(f"cannot read the target {path}: {str(error).splitlines()[0]}.") from None
    states: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        owners = [modality for modality in modalities if name.startswith(f"{modality}.")]
        if not owners:
            raise UsageError(
                f"{path} holds {name!r}; expected names MODALITY.PARAMETER, of {', '.join(modalities)}."
            )
        owner = max(owners, key=len)
        states.setdefault(owner, {})[name.removeprefix(f"{owner}.")] = tensor
    return {**options, "target": states}


@torch.no_grad()
def update_average(average: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    """Update an exponential moving average in place: `decay * average + (1 - decay) * current`."""
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            # An average that was loaded from a checkpoint is whole, also where the weights are sharded.
            new = own_part(value) if is_sharded(average[name]) else whole(value)
            held = own_part(average[name])
            held.lerp_(new.detach().to(held.device), 1 - decay)


def redrawn(
    modality: str, encoder: nn.Module, choices: RelearnOptions, selected: Sequence[str], turn: int
) -> dict[str, Tensor]:
    """Return a fresh draw of an encoder, a different one for each turn; see `redrawn_state`."""
    factory = (choices.redraw_with or {}).get(modality)
    return redrawn_state(encoder, choices.redraw_seed + turn, needed=selected, factory=factory)


def redrawn_state(
    module: nn.Module, seed: int, *, needed: Collection[str] | None = None, factory: Factory | None = None
) -> dict[str, Tensor]:
    """Return the state of a copy of `module` whose parameters were initialised again from `seed`.

    Layers are initialised by their `reset_parameters()`, those of a model of `transformers` by the model's
    own initialisation, which includes tokens and position embeddings, and adapters by `peft`. A parameter
    that none of them initialises is found by its NaN; if it is `needed` (None for all), it needs a factory,
    which builds a module like this one with fresh weights in place of all of the above.

    Raises:
        ModelError: a needed parameter cannot be initialised, or the factory's module does not fit.
    """
    if factory is not None:
        return _from_factory(module, seed, needed, factory)
    if any(is_sharded(parameter) for parameter in module.parameters()):
        raise ModelError(
            f"the weights of {type(module).__name__} are sharded, so that no process holds a whole layer to "
            "initialise; give a factory in redraw_with, or use target='init'."
        )
    # On the CPU, so that every device draws the same numbers.
    fresh = copy.deepcopy(module).cpu()
    held = {name: value.clone() for name, value in fresh.state_dict().items()}
    with torch.no_grad():
        for parameter in fresh.parameters():
            if parameter.is_floating_point() or parameter.is_complex():
                parameter.fill_(math.nan)
    with seeded_rng(seed), torch.no_grad():
        # From the inside out, as constructors do: attention initialises its parts again.
        for layer in reversed(list(fresh.modules())):
            reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
            if callable(reset):
                reset()
        _draw_as_transformers_does(fresh)
        _draw_adapters(fresh)
    left = {name for name, parameter in fresh.named_parameters() if bool(parameter.isnan().any())}
    if undrawn := sorted(left if needed is None else left & set(needed)):
        owner = undrawn[0].rpartition(".")[0]
        kind = type(module.get_submodule(owner)).__name__
        raise ModelError(
            f"{undrawn[0]!r} of {owner or kind!r} ({kind}) cannot be drawn anew: no reset_parameters() draws "
            "it; add that method, give a factory in redraw_with, or use target='init'."
        )
    state = {name: value.detach().cpu() for name, value in fresh.state_dict().items()}
    return {name: held[name] if bool(value.isnan().any()) else value for name, value in state.items()}


def _from_factory(
    module: nn.Module, seed: int, needed: Collection[str] | None, factory: Factory
) -> dict[str, Tensor]:
    with seeded_rng(seed), torch.device("cpu"):
        fresh: object = factory()
    if not isinstance(fresh, nn.Module):
        raise ModelError(f"the factory gave a {type(fresh).__name__}; expected a module like the encoder.")
    state = snapshot(fresh)
    named = dict(module.named_parameters())
    wanted = {name: named[name] for name in (named if needed is None else needed)}
    check_state(wanted, state, type(module).__name__)
    return state


def _draw_as_transformers_does(fresh: nn.Module) -> None:
    if "transformers" not in sys.modules:  # then no layer is one of its
        return
    from transformers import PreTrainedModel

    for part in fresh.modules():
        # transformers skips what is marked as loaded.
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
