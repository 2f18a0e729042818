"""Options of methods: fields with limits, which every method checks when it is made."""

from __future__ import annotations

import math
from dataclasses import field, fields
from typing import Any

from equipoise.types import UsageError, check_known


def number(
    default: float | None, low: float = 0.0, high: float = math.inf, *, above: float = -math.inf
) -> Any:
    """Return a dataclass field for a finite number in `[low, high]` that is greater than `above`.

    None is accepted if the declared type allows it.
    """
    return field(default=default, metadata={"limits": (low, high, above)})


def choice(default: str, *others: str) -> Any:
    """Return a dataclass field for one of several words, of which the first is the default."""
    return field(default=default, metadata={"choices": (default, *others)})


def check_options(method: Any) -> None:
    """Check the fields of a dataclass that were declared by `number` and `choice`.

    Raises:
        UnknownNameError: a word is none of the choices.
        UsageError: a number is outside its limits.
    """
    for option in fields(method):
        value = getattr(method, option.name)
        if "choices" in option.metadata:
            check_known(f"value of {option.name}", [value], option.metadata["choices"])
        elif "limits" in option.metadata and not (value is None and "None" in str(option.type)):
            check_number(option.name, value, *option.metadata["limits"])


def check_number(
    option: str, value: float, low: float = 0.0, high: float = math.inf, above: float = -math.inf
) -> None:
    """Refuse a number outside `[low, high]`, at most `above`, or not finite.

    Raises:
        UsageError: states the limits.
    """
    if math.isfinite(value) and low <= value <= high and value > above:
        return
    wanted = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
    if value <= above:
        wanted = f"above {above:g}" + ("" if high == math.inf else f" and at most {high:g}")
    raise UsageError(f"{option} is {value}; expected a finite number {wanted}.")
