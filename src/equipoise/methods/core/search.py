"""Ranges in which the options of a method are searched for good values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from equipoise.types import UsageError


@dataclass(frozen=True)
class Uniform:
    """Numbers from `low` to `high`, all equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high)

    def __contains__(self, value: Any) -> bool:
        return _is_number(value) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    @property
    def ends(self) -> tuple[Any, ...]:
        """The extreme values."""
        return self.low, self.high


@dataclass(frozen=True)
class LogUniform(Uniform):
    """Numbers from `low` to `high` whose logarithms are equally likely: for factors, such as weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise UsageError(f"a logarithmic range starts at {self.low}; expected a number above 0.")

    def __str__(self) -> str:
        return f"{super().__str__()}, logarithmic"

    @classmethod
    def around(cls, value: float, factor: float = 10.0) -> LogUniform:
        """Return the numbers from `value / factor` to `value * factor`."""
        return cls(value / factor, value * factor)


@dataclass(frozen=True)
class Whole:
    """Whole numbers from `low` to `high`."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high)

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low} to {self.high}, whole"

    @property
    def ends(self) -> tuple[Any, ...]:
        """The extreme values."""
        return self.low, self.high


@dataclass(frozen=True)
class Choice:
    """A few values; texts, numbers, or truth values."""

    values: tuple[str | int | float | bool, ...]

    def __post_init__(self) -> None:
        if len(set(self.values)) < max(2, len(self.values)):
            raise UsageError(f"the choices are {self.values!r}; expected at least two different values.")

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return " or ".join(map(str, self.values))

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values, as none is extreme."""
        return self.values


Range = Uniform | LogUniform | Whole | Choice
SearchSpace = Mapping[str, Range]
"""Option to range."""


def space(**ranges: Range) -> SearchSpace:
    """Return a search space, which cannot be changed: it belongs to a class."""
    return MappingProxyType(ranges)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_ends(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"a range goes from {low} to {high}; expected finite numbers, the smaller first.")
