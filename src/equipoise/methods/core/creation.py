"""Build a method, or a combination of methods, from its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.methods.core.combination import SEPARATOR, Combined
from equipoise.methods.core.method import METHODS, Method
from equipoise.types import UsageError


def create_method(spec: str, options: Mapping[str, Any] | None = None) -> Method:
    """Build a method from its name.

    Args:
        spec: a name; `name:value` for a method with variants (`unimodal:audio`); `name+name` for a
            combination.
        options: by name; `method.option` for a combination.

    Raises:
        UnknownNameError: there is no such method or option.
        UsageError: a variant is missing, or given to a method without variants; or the methods do not
            combine.
    """
    names = _members(spec)
    if len(names) == 1:
        return _single(spec, dict(options or {}))
    by_member: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in (options or {}).items():
        member, _, option = key.partition(".")
        if member not in by_member or not option:
            raise UsageError(
                f"the option {key!r} of {spec!r} names none of its methods; expected METHOD.OPTION, such as "
                f"{names[0]}.OPTION."
            )
        by_member[member][option] = value
    return Combined(spec, {name: _single(name, by_member[name]) for name in names})


def base_names(spec: str) -> list[str]:
    """Return the registered names in a method's name, such as `unimodal` of `unimodal:audio`.

    Raises:
        UnknownNameError: there is no such method.
    """
    names = [member.partition(":")[0] for member in _members(spec)]
    for name in names:
        METHODS[name]
    return names


def trains(spec: str) -> bool:
    """Return whether anything is left to train once the parts of a method are trained."""
    return all(METHODS[name].trains for name in base_names(spec))


def _members(spec: Any) -> list[str]:
    if not isinstance(spec, str):
        raise UsageError(f"the method is {spec!r}; expected its name, with options in method_options.")
    return spec.split(SEPARATOR)


def option_names(spec: str) -> list[str]:
    """Return the names of the options of a method; of a combination, in the form `method.option`."""
    names = base_names(spec)
    dotted = [f"{name}.{option}" for name in names for option in METHODS[name].option_names()]
    return dotted if len(names) > 1 else [option.partition(".")[2] for option in dotted]


def options_for(spec: str, options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Select the options of a method or a combination from options by registered name."""
    names = base_names(spec)
    if len(names) == 1:
        return dict(options.get(names[0], {}))
    return {f"{name}.{option}": value for name in names for option, value in options.get(name, {}).items()}


def _single(spec: str, chosen: dict[str, Any]) -> Method:
    name, _, value = spec.partition(":")
    kind = METHODS[name]
    if value:
        if kind.argument is None:
            raise UsageError(f"the method {name!r} has no variants; found {spec!r}, expected {name!r}.")
        chosen[kind.argument] = value
    elif kind.argument is not None and kind.argument not in chosen:
        raise UsageError(
            f"the method {name!r} runs on one {kind.argument} at a time; expected {name}:NAME, "
            f"such as {name}:audio."
        )
    return kind.create(chosen)
