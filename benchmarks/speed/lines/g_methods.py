"""Every method against joint training."""

from __future__ import annotations

from collections.abc import Callable

from sets import HTAD
from turns import Found, Ratio, Size, in_turn

import equipoise as eq
from equipoise.experiments.grid.planning import expand
from equipoise.training.settings import Settings

TITLE = "Every method against joint training"
BASE = "joint"
FEW = (BASE, "ogm-ge", "diagnose-relearn")


def measure(size: Size) -> Found:
    found, epochs = Found(), size.of(20, 4)
    plan = expand(Settings.from_options(HTAD, epochs=epochs), size.of(["all"], FEW), {}, 0)
    found.missing |= plan.left_out
    works = {name: fitting(name, epochs) for name in plan.parts}
    turns = in_turn(works, size.of(3, 1), warm=not size.quick)
    for name in sorted(turns, key=lambda name: sum(turn.cpu for turn in turns[name])):
        if name != BASE:
            parts = f" (with {', '.join(plan.parts[name])})" if plan.parts[name] else ""
            found.ratios.append(Ratio(f"{name}{parts} / {BASE}", turns[name], turns[BASE], unit=" s"))
    found.notes.append(
        f"Whole runs on HTAD, {epochs} epochs, without looks; runs that a method builds on are included."
    )
    return found


def fitting(method: str, epochs: int) -> Callable[[], object]:
    return lambda: eq.fit(HTAD, method, epochs=epochs, diagnose_every=0)
