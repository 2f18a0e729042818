"""Checks of option values, with one wording."""

from __future__ import annotations

import math
from collections.abc import Collection

from equipoise.types import UnknownNameError, UsageError


def check_choice(option: str, value: str, known: Collection[str]) -> None:
    """Refuse a value that is none of the known ones.

    Raises:
        UnknownNameError: as said; names near ones.
    """
    if value not in known:
        raise UnknownNameError(f"value of {option}", value, known)


def check_number(option: str, value: float, low: float = 0.0, high: float = math.inf) -> None:
    """Refuse a number outside `[low, high]`, or one that is not finite.

    Raises:
        UsageError: as said.
    """
    if math.isfinite(value) and low <= value <= high:
        return
    wanted = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
    raise UsageError(f"{option} is {value}; expected a finite number {wanted}.")
