"""How numbers and names are written in a report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from equipoise.decimals import MINUS, MISSING, ends, fixed

TIMES: Final = "\N{MULTIPLICATION SIGN}"
NARROW: Final = "\N{NARROW NO-BREAK SPACE}"


def number(value: Any) -> float:
    """Return a value of a record as a float; what is no number is NaN."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def decimal(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """Write a number with a true minus sign; a value that rounds to zero has no sign."""
    return fixed(value, digits, signed=signed).replace("-", MINUS) if math.isfinite(value) else MISSING


def between(low: float, high: float, *, signed: bool = False) -> str:
    """Write an interval or a range: `0.112 to 0.345`."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    return " to ".join(ends(low, high, signed=signed)).replace("-", MINUS)


def p_value(value: float) -> str:
    """Write a p-value; tiny ones as a bound."""
    if not math.isfinite(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_equals(test: str, value: float) -> str:
    """Write a p-value in a sentence, with its test: `paired t-test: p = 0.012`, or `p < 0.001`."""
    text = p_value(value)
    return f"{test}: " + ("p " if text[0] == "<" else "p = ").replace(" ", "\N{NO-BREAK SPACE}") + text


def listed(parts: Sequence[str]) -> str:
    """Join parts as a sentence does: `a, b and c`."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: `1 seed`, `3 seeds`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def shortened(text: str, limit: int = 40) -> str:
    """Cut a long name in its middle; names of models and files differ at both ends."""
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[:half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"


@dataclass(frozen=True)
class Spread:
    """A mean over seeds with its range.

    Attributes:
        mean, low, high: mean, smallest and largest value; NaN where there is none.
        n: number of finite values.
    """

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of the finite values."""
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return cls(math.nan, math.nan, math.nan, 0)
        return cls(math.fsum(finite) / len(finite), min(finite), max(finite), len(finite))

    def __bool__(self) -> bool:
        return self.n > 0
