"""Pull a module softly back toward earlier weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Final

import torch
from torch import Tensor, nn

from equipoise.distributed import is_sharded, own_part, part_like, refuse_flattened, unwrapped
from equipoise.types import EquipoiseWarning, ModelError, UsageError, check_known

BUFFER_POLICIES: Final = ("keep", "blend", "reset")
ParameterFilter = Callable[[str, nn.Parameter], bool]


@torch.no_grad()
def soft_reinitialize(
    module: nn.Module,
    initial_state: Mapping[str, Tensor],
    strength: float | Mapping[str, float],
    *,
    parameters: Collection[str] | ParameterFilter | None = None,
    buffers: str = "keep",
) -> nn.Module:
    """Blend a module's parameters in place: `(1 - strength) * current + strength * initial`.

    This is the re-learning step of Diagnosing & Re-learning (Wei et al., ECCV 2024). Tensors are changed in
    place, so optimisers, hooks and distributed wrappers keep their references; a tensor with two names is
    blended once. Low-precision tensors are blended in float32. Names are those inside wrappers for
    compilation and distributed training. Of weights sharded by `fully_shard`, each process blends its part.

    Args:
        module: the encoder; changed in place.
        initial_state: parameter name to tensor, a copy of `module.state_dict()` taken before training (see
            `snapshot`; the tensors of `state_dict()` itself change with training). Entries that are not
            parameters are used for `buffers` only.
        strength: 0 changes nothing, 1 restores the initial weights exactly. A mapping gives a strength to
            each parameter whose name equals a key or begins with it (`"layer1"` for `"layer1.0.weight"`);
            the longest match counts, `""` matches all, and without a match the strength is 0.
        parameters: names, or a function of name and parameter, that select what is blended; None means all.
        buffers: `keep` (as in the official code), `blend` or `reset` the floating-point buffers, such as the
            running statistics of normalisation layers; `reset` restores integer buffers too. Buffers that
            are not in `state_dict()` are constants and kept. A mapping of strengths applies to their names
            too.

    Returns:
        The module.

    Raises:
        UsageError: a strength is outside [0, 1], or a name of `parameters` does not exist.
        ModelError: `initial_state` lacks a parameter or holds another shape, or a parameter is quantised, or
            flattened by `FullyShardedDataParallel`. Nothing is changed then.
    """
    check_known("policy for buffers", [buffers], BUFFER_POLICIES)
    given, module = module, unwrapped(module)
    refuse_flattened(module, type(module).__name__)
    named = dict(module.named_parameters())
    amounts = {name: _strength_of(name, strength) for name in _chosen(named, parameters)}
    tensors: dict[str, Tensor] = {name: named[name] for name in amounts}
    if buffers != "keep":
        saved = module.state_dict().keys()
        for name, buffer in module.named_buffers():
            if name not in saved:
                continue
            amount = _strength_of(name, strength)
            if buffers == "reset" or buffer.is_floating_point():
                tensors[name] = buffer
                amounts[name] = float(amount > 0) if buffers == "reset" else amount
    touched = {name: tensor for name, tensor in tensors.items() if amounts[name] > 0}
    _refuse_quantised({name: named[name] for name in touched if name in named}, type(module).__name__)
    check_state(touched, initial_state, type(module).__name__)
    if any(own_part(tensor).is_set_to(own_part(initial_state[name])) for name, tensor in touched.items()):
        warnings.warn(
            "the initial state holds the module's own tensors, so blending changes nothing: copy it before "
            "training, for instance by copy.deepcopy(module.state_dict()).",
            EquipoiseWarning,
            stacklevel=3,
        )
    for name, tensor in touched.items():
        _blend(own_part(tensor), part_like(initial_state[name], tensor), amounts[name])
    return given


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's parameters and buffers, on the CPU; of sharded ones the local part."""
    state = unwrapped(module).state_dict()
    return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}


def _blend(tensor: Tensor, target: Tensor, strength: float) -> None:
    target = target.to(tensor.device)
    if strength == 1 or not (tensor.is_floating_point() or tensor.is_complex()):
        tensor.copy_(target)
        return
    precise = torch.promote_types(tensor.dtype, torch.float32)
    tensor.copy_(torch.lerp(tensor.to(precise), target.to(precise), strength))


def _chosen(
    named: Mapping[str, nn.Parameter], parameters: Collection[str] | ParameterFilter | None
) -> list[str]:
    if parameters is None:
        return list(named)
    if callable(parameters):
        return [name for name, parameter in named.items() if parameters(name, parameter)]
    check_known("parameter", parameters, named)
    return [name for name in named if name in parameters]


def _strength_of(name: str, strength: float | Mapping[str, float]) -> float:
    if isinstance(strength, Mapping):
        matches = [key for key in strength if key in ("", name) or name.startswith(f"{key}.")]
        value = float(strength[max(matches, key=len)]) if matches else 0.0
    else:
        value = float(strength)
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise UsageError(f"strength is {value}; expected a number from 0 (keep) to 1 (start again).")
    return value


def _refuse_quantised(touched: Mapping[str, Tensor], what: str) -> None:
    """Check that parameters are floating-point numbers, not codes of a quantisation."""
    for name, tensor in touched.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            raise ModelError(
                f"{name!r} of {what} is quantised ({tensor.dtype}) and cannot be blended; leave such weights "
                "frozen and re-learn the adapters."
            )


def check_state(touched: Mapping[str, Tensor], initial_state: Mapping[str, Tensor], what: str) -> None:
    """Check that a state holds all tensors of a module that will be blended, in the same shapes.

    Raises:
        ModelError: a tensor is missing, has another shape, or is no longer the sharded one; `what` names the
            module.
    """
    missing = [name for name in touched if name not in initial_state]
    if missing:
        raise ModelError(
            f"the initial state lacks {len(missing)} of the {len(touched)} tensors of {what}, first "
            f"{missing[0]!r}; expected the state_dict() of this module, taken before training."
        )
    for name, tensor in touched.items():
        if initial_state[name].shape != tensor.shape:
            raise ModelError(
                f"{name!r} of {what} has the shape {list(tensor.shape)}, its initial state "
                f"{list(initial_state[name].shape)}; expected the state of this module."
            )
        if is_sharded(initial_state[name]) and not is_sharded(tensor):
            raise ModelError(
                f"{name!r} of {what} is a temporary whole copy of a sharded weight; call reshard() of the "
                "model before its weights are changed."
            )
