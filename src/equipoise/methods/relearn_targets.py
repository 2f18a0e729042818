"""What each encoder of a re-learning is pulled toward, checked before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from equipoise.methods.relearn_options import RelearnOptions
from equipoise.relearning import redrawn_state, select_buffers, snapshot
from equipoise.relearning.reinitialize import check_state
from equipoise.types import UnknownNameError, UsageError

SUFFIX: Final = ".safetensors"


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
        ModelError: a given state does not fit its encoder, or an encoder cannot be drawn anew.
    """
    targets = {name: snapshot(encoder) for name, encoder in encoders.items()}
    if isinstance(choices.target, Mapping):
        for name, state in choices.target.items():
            if name not in targets:
                raise UnknownNameError("modality of target", name, targets)
            needed = _needed(encoders[name], selected[name], choices)
            check_state({key: targets[name][key] for key in needed}, state, f"the encoder of {name!r}")
            targets[name] = {key: value.detach().to("cpu", copy=True) for key, value in state.items()}
    elif choices.target == "redraw":
        for encoder in encoders.values():
            redrawn_state(encoder, choices.redraw_seed)
    return targets


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


def _needed(encoder: nn.Module, selected: Sequence[str], choices: RelearnOptions) -> list[str]:
    """Return the names that a target must hold."""
    if choices.norm_stats not in ("blend", "reset"):
        return list(selected)
    saved = encoder.state_dict().keys()
    return [*selected, *(name for name in select_buffers(encoder, choices.parameters) if name in saved)]
