"""Measure things in turn, in one run, so that a busy or warm machine changes all of them alike."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple


class Turn(NamedTuple):
    """One measurement: seconds by the clock, and of processor time with that of ended child processes."""

    wall: float
    cpu: float

    def times(self, factor: float) -> Turn:
        """Return so many times the seconds."""
        return Turn(self.wall * factor, self.cpu * factor)

    def plus(self, other: Turn) -> Turn:
        """Return the seconds of both."""
        return Turn(self.wall + other.wall, self.cpu + other.cpu)


@dataclass(frozen=True)
class Size:
    """How much is measured: all of it, or so little that a test can run every line."""

    quick: bool = False

    def of(self, whole: Any, tiny: Any) -> Any:
        """Return one of two sizes."""
        return tiny if self.quick else whole


@dataclass(frozen=True)
class Ratio:
    """The ratio of two things measured in turn: `one` over `other`, round by round.

    Attributes:
        what: what is compared with what.
        one, other: the measurements of each, in the order of the rounds.
        asked: the limit of the ratio, None for none.
        at_least: whether the limit is a lower one.
        expected: what the ratio is divided by, for growth.
        unit: what the seconds are of; `per` of them were measured at once.
        by: `wall` or `cpu`, the seconds that are compared with the limit.
    """

    what: str
    one: list[Turn]
    other: list[Turn]
    asked: float | None = None
    at_least: bool = False
    expected: float = 1.0
    unit: str = ""
    per: int = 1

    def of(self, clock: str) -> list[float]:
        """Return the ratio of each round by one of the two clocks."""
        pairs = zip(self.one, self.other, strict=True)
        return [getattr(a, clock) / max(getattr(b, clock), 1e-9) / self.expected for a, b in pairs]

    def record(self) -> dict[str, Any]:
        """Return the measurements and what follows from them, for the record."""
        wall, cpu = self.of("wall"), self.of("cpu")
        middle = median(wall)
        holds = None
        if self.asked is not None:
            holds = middle >= self.asked if self.at_least else middle <= self.asked
        return {
            "what": self.what,
            "ratio": middle,
            "lowest": min(wall),
            "highest": max(wall),
            "ratio_by_cpu": median(cpu),
            "asked": self.asked,
            "at_least": self.at_least,
            "holds": holds,
            "unit": self.unit,
            "seconds": [median(turn.wall for turn in side) / self.per for side in (self.one, self.other)],
            "rounds": {"one": self.one, "other": self.other},
        }


@dataclass
class Found:
    """What a line has found.

    Attributes:
        ratios: its ratios.
        table: more figures, a row each, under their headings.
        missing: what was not measured, and why.
        notes: sentences below the tables.
    """

    ratios: list[Ratio] = field(default_factory=list)
    table: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return it for the record."""
        return {
            "ratios": [ratio.record() for ratio in self.ratios],
            "table": self.table,
            "missing": self.missing,
            "notes": self.notes,
        }


def in_turn(
    works: Mapping[str, Callable[[], object]], rounds: int, *, warm: bool = True
) -> dict[str, list[Turn]]:
    """Do each work once per round, and time it; every other round goes backwards.

    With `warm` each is done once before, so that imports and caches are not measured.
    """
    if warm:
        for work in works.values():
            work()
    found: dict[str, list[Turn]] = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(timed(works[name]))
    return found


def timed(work: Callable[[], object]) -> Turn:
    wall, cpu = time.perf_counter(), _cpu()
    work()
    return Turn(time.perf_counter() - wall, _cpu() - cpu)


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def load() -> float:
    """Return the number of busy processes of the last minute."""
    return os.getloadavg()[0]
