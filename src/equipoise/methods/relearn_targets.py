"""What each encoder of a re-learning is pulled toward, checked before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from equipoise.methods.relearn_options import RelearnOptions
from equipoise.relearning import redrawn_state, select_buffers, snapshot
from equipoise.relearning.reinitialize import check_state
from equipoise.types import UnknownNameError


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


def _needed(encoder: nn.Module, selected: Sequence[str], choices: RelearnOptions) -> list[str]:
    """Return the names that a target must hold."""
    if choices.norm_stats not in ("blend", "reset"):
        return list(selected)
    saved = encoder.state_dict().keys()
    return [*selected, *(name for name in select_buffers(encoder, choices.parameters) if name in saved)]
