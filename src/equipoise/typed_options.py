"""Check the types of options."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from numbers import Number
from typing import Any, Literal, TypeVar

from typeguard import TypeCheckError, check_type

from equipoise.types import UnknownNameError, UsageError, check_known

Options = TypeVar("Options")


def from_options(declared: type[Options], options: Mapping[str, Any], whose: str) -> Options:
    """Create a dataclass from some of its fields by name.

    Raises:
        UnknownNameError: a name is not a field.
        UsageError: a value has the wrong type or is invalid.
    """
    known = [field.name for field in dataclasses.fields(declared)]  # type: ignore[arg-type]
    check_known(f"option {whose}", options, known)
    check_types(declared, options, whose)
    return declared(**options)


def plain(value: Any) -> Any:
    """Return NumPy's numbers as those of Python, also inside a mapping: a record holds no others."""
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    return value.item() if isinstance(value, Number) and hasattr(value, "item") else value


def check_keywords(
    called: Callable[..., Any],
    given: Iterable[str],
    options: Iterable[str],
    elsewhere: Mapping[str, str] | None = None,
) -> None:
    """Check the names of the `**options` of a function against `options`.

    Raises:
        UnknownNameError: suggests near names out of all parameters and options, and `elsewhere`.
    """
    known = set(options)
    for name in given:
        if name not in known:
            own = {p.name for p in signature(called).parameters.values() if p.kind is not p.VAR_KEYWORD}
            raise UnknownNameError(f"option of {called.__name__}", name, known | own, elsewhere=elsewhere)


def check_types(declared: type, options: Mapping[str, Any], whose: str = "") -> None:
    """Check options against the annotations of a dataclass; names without a field are ignored.

    Raises:
        UsageError: a value has another type; an integer is accepted for a float, a bool only for a bool.
    """
    hints = typing.get_type_hints(declared)
    fields = {field.name: field.type for field in dataclasses.fields(declared)}
    for name, value in options.items():
        if name not in fields:
            continue
        try:
            check_type(value, hints[name])
            fits = not isinstance(value, bool) or "bool" in str(fields[name])
        except TypeCheckError:
            fits = False
        if not fits:
            raise UsageError(
                f"option {name!r} {whose}".rstrip() + f" is {value!r}; expected {in_words(hints[name])}."
            )


WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "True or False",
    type(None): "None",
}


def in_words(kind: Any) -> str:
    """Return a type as a person would say it: `float | None` is "a number or None"."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        parts = list(dict.fromkeys(in_words(one) for one in inner))
        return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if not isinstance(origin, type):
        return WORDS.get(kind, getattr(kind, "__name__", str(kind)))
    if issubclass(origin, Mapping):
        return "a mapping"
    if issubclass(origin, Iterable):
        names = " or ".join(dict.fromkeys(in_words(one) for one in inner if one is not Ellipsis))
        return f"a list of {names.removeprefix('a ')}s"
    return WORDS.get(kind, getattr(kind, "__name__", str(kind)))
