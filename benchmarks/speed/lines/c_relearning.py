"""A run of Diagnosing & Re-learning against joint training, by the schedule of the paper, and its parts."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from sets import HTAD, avletters
from turns import Found, Ratio, Size, in_turn

import equipoise as eq
from equipoise.relearning import planner, relearner

TITLE = "Diagnosing & Re-learning against joint training, 90 epochs with three re-learnings"
PARTS = {
    "forward passes": (planner, "collect_features"),
    "clustering": (planner, "diagnose_captured"),
    "blending": (relearner, "soft_reinitialize"),
}
"""The function of each part, and the module that calls it by this name."""


def measure(size: Size) -> Found:
    found, epochs = Found(), size.of(90, 3)
    for name, data, rounds in (("MLP", HTAD, size.of(7, 1)), ("video CNN", avletters(), size.of(2, 1))):
        seconds: list[dict[str, float]] = []

        def relearnt(data: str = data, seconds: list[dict[str, float]] = seconds) -> None:
            with parts_timed() as spent:
                eq.fit(data, "diagnose-relearn", epochs=epochs, diagnose_every=0)
            seconds.append(spent)

        works = {
            "relearn": relearnt,
            "joint": lambda data=data: eq.fit(data, "joint", epochs=epochs, diagnose_every=0),
        }
        turns = in_turn(works, rounds, warm=name == "MLP" and not size.quick)
        found.ratios.append(
            Ratio(f"{name}, {epochs} epochs: D&R / joint", turns["relearn"], turns["joint"], 1.05, unit=" s")
        )
        joint = median(turn.wall for turn in turns["joint"])
        shares = {part: f"{median(one[part] for one in seconds) / joint:.2%}" for part in PARTS}
        found.table.append({"added, of the joint run": name, **shares})
    return found


@contextmanager
def parts_timed() -> Iterator[dict[str, float]]:
    """Time the parts of the re-learnings in the block."""
    spent: dict[str, float] = defaultdict(float)
    usual = {part: getattr(module, name) for part, (module, name) in PARTS.items()}

    def timing(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = work(*arguments, **options)
            spent[part] += time.perf_counter() - start
            return result

        return timed

    for part, (module, name) in PARTS.items():
        setattr(module, name, timing(part, usual[part]))
    try:
        yield spent
    finally:
        for part, (module, name) in PARTS.items():
            setattr(module, name, usual[part])
