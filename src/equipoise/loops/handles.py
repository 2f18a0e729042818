"""Encoders of a model that comes later, named by their paths inside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    return {name: one_resolved(handle, model, name) for name, handle in encoders.items()}


def one_resolved(handle: str | nn.Module, model: nn.Module, name: str) -> nn.Module:
    """Return the module that a handle means; `name` says what for.

    Raises:
        ModelError: there is no such submodule.
    """
    if not isinstance(handle, str):
        return handle
    inside = unwrapped(model)
    if callable(get_base := getattr(inside, "get_base_model", None)):  # a model of peft
        inside = get_base()
    try:
        return inside.get_submodule(handle)
    except AttributeError as error:
        known = ", ".join(child for child, _ in inside.named_children()) or "none"
        raise ModelError(
            f"the model ({type(inside).__name__}) has no submodule {handle!r} for {name!r}; it has {known}."
        ) from error


def head_resolved(head: Any, model: nn.Module) -> Any:
    """Return the head of `equipoise.by_hand`, given as module, path, or modality to module or path.

    Raises:
        ModelError: there is no such submodule.
    """
    if isinstance(head, str):
        return one_resolved(head, model, "head")
    if isinstance(head, Mapping):
        return {name: one_resolved(layer, model, f"head of {name}") for name, layer in head.items()}
    return head
