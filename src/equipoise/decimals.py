"""How numbers and intervals are written wherever a person reads them."""

from __future__ import annotations

import math
from typing import Final

MINUS: Final = "\N{MINUS SIGN}"
MISSING: Final = "\N{EN DASH}"
NOISE: Final = 1e-6
"""Below this a number is zero but for the rounding of scores in single precision."""


def fixed(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """Write a number with so many decimals; one that rounds to zero has no sign."""
    text = f"{abs(value):,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        return text
    return ("-" if value < 0 else "+" if signed else "") + text


def ends(low: float, high: float, digits: int = 3, *, signed: bool = False) -> tuple[str, str]:
    """Write the ends of an interval; one close to zero gets more decimals, so that its side of zero shows."""

    def end(value: float) -> str:
        more = -math.floor(math.log10(abs(value))) if abs(value) > NOISE else digits
        text = fixed(value, digits, signed=signed)
        return fixed(value, more, signed=signed) if float(text.replace(",", "")) == 0 else text

    return end(low), end(high)


def bracketed(interval: tuple[float, float] | None, digits: int = 3, *, signed: bool = False) -> str:
    """Write an interval after its number, ` [-0.004, 0.020]`; nothing where there is none."""
    return f" [{', '.join(ends(*interval, digits, signed=signed))}]" if interval else ""
