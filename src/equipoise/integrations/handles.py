"""Encoders of a model that comes later, named by their paths inside it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from equipoise.distributed import unwrapped
from equipoise.types import ModelError, UsageError

Handles = Mapping[str, str | nn.Module]


def check_handles(encoders: Handles) -> None:
    """Refuse handles that are neither paths nor modules, before there is a model.

    Raises:
        UsageError: there is none, or one is something else.
    """
    if not encoders:
        raise UsageError("no encoder was given; expected a mapping from modality name to path or module.")
    for name, handle in encoders.items():
        if not isinstance(handle, str | nn.Module):
            raise UsageError(
                f"the handle of {name!r} is a {type(handle).__name__}; expected a module, or its path inside "
                "the model, such as 'audio_net'."
            )


def resolved(encoders: Handles, model: nn.Module) -> dict[str, nn.Module]:
    """Return modality to module.

    Args:
        encoders: modality to a module, or to its path inside the model as in `model.get_submodule`.
        model: what holds them, with or without wrappers.

    Raises:
        ModelError: there is no such submodule.
    """
    inside = unwrapped(model)
    if callable(get_base := getattr(inside, "get_base_model", None)):  # a model of peft
        inside = get_base()
    found = {}
    for name, handle in encoders.items():
        try:
            found[name] = inside.get_submodule(handle) if isinstance(handle, str) else handle
        except AttributeError as error:
            known = ", ".join(child for child, _ in inside.named_children()) or "none"
            raise ModelError(
                f"the model ({type(inside).__name__}) has no submodule {handle!r} for {name!r}; "
                f"it has {known}."
            ) from error
    return found
