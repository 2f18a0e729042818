"""What each encoder of a re-learning is pulled toward, checked before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from equipoise.relearning.options import RelearnOptions
from equipoise.relearning.redraw import redrawn_state
from equipoise.relearning.reinitialize import check_state, snapshot
from equipoise.relearning.selection import select_buffers
from equipoise.relearning.targets import weights_origin
from equipoise.types import UnknownNameError, UsageError

SUFFIX: Final = ".safetensors"
WRAPPERS: Final = ("module.", "_orig_mod.")
"""What wrappers for distributed training and compilation put before the names of a module."""


def initial_targets(
    encoders: Mapping[str, nn.Module], choices: RelearnOptions, selected: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Tensor]]:
    """Return the state that each encoder is pulled toward, on the CPU.

    What cannot work is refused here rather than after many epochs.

    Args:
        encoders: modality name to encoder, as they are at the start.
        choices: `target` says what they are pulled toward.
        selected: modality name to the parameters that take part.

    Raises:
        UnknownNameError: `target` names a modality that does not exist.
        UsageError: `target` is `pretrained`, and an encoder did not start from given weights.
        ModelError: a given state does not fit its encoder, or an encoder cannot be drawn anew.
    """
    targets = {name: snapshot(encoder) for name, encoder in encoders.items()}
    if isinstance(choices.target, Mapping):
        for name, state in choices.target.items():
            if name not in targets:
                raise UnknownNameError("modality of target", name, targets)
            state = without_wrapper(state)
            needed = _needed(name, encoders[name], selected[name], choices)
            check_state({key: targets[name][key] for key in needed}, state, f"the encoder of {name!r}")
            targets[name] = {key: value.detach().to("cpu", copy=True) for key, value in state.items()}
    elif choices.target == "redraw":
        for name, encoder in encoders.items():
            redrawn(name, encoder, choices, selected[name], 0)
    elif choices.target == "pretrained":
        _require_origin(encoders)
    return targets


def redrawn(
    modality: str, encoder: nn.Module, choices: RelearnOptions, selected: Sequence[str], turn: int
) -> dict[str, Tensor]:
    """Return a fresh draw of an encoder, another one for each turn; see `redrawn_state`."""
    factory = (choices.redraw_with or {}).get(modality)
    return redrawn_state(encoder, choices.redraw_seed + turn, needed=selected, factory=factory)


def without_wrapper(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state without the prefixes that wrappers of the whole module have put before its names."""
    plain = dict(state)
    while prefix := next((w for w in WRAPPERS if plain and all(name.startswith(w) for name in plain)), None):
        plain = {name.removeprefix(prefix): tensor for name, tensor in plain.items()}
    return plain


def _require_origin(encoders: Mapping[str, nn.Module]) -> None:
    for name, encoder in encoders.items():
        if weights_origin(encoder) is None:
            raise UsageError(
                f"target='pretrained', but nothing tells that the encoder of {name!r} "
                f"({type(encoder).__name__}) started from given weights; load them before this, or use "
                "target='init', which blends toward whatever weights the encoders have now."
            )


def with_target_file(options: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, Any]:
    """Return options whose `target`, where it is the path of a file, is replaced by what the file holds.

    Raises:
        UsageError: the file cannot be read, or holds a name that begins with no modality.
    """
    path = options.get("target")
    if not (isinstance(path, str) and path.endswith(SUFFIX)):
        return dict(options)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
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


def _needed(modality: str, encoder: nn.Module, selected: Sequence[str], choices: RelearnOptions) -> list[str]:
    """Return the names that a target must hold."""
    if choices.norm_stats not in ("blend", "reset"):
        return list(selected)
    saved, selection = encoder.state_dict().keys(), choices.selections([modality])[modality]
    return [*selected, *(name for name in select_buffers(encoder, selection) if name in saved)]
