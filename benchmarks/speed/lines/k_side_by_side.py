"""Ten seeds of a small model at once against one after another."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from sets import HTAD, folder
from turns import Found, Ratio, Size, in_turn

import equipoise as eq

TITLE = "Ten seeds at once against one after another"
SEEDS = 10


def measure(size: Size) -> Found:
    found, epochs = Found(), size.of(60, 1)
    for method in size.of(("joint", "diagnose-relearn"), ("joint",)):
        works = {f"{count}": comparing(method, count, size) for count in (1, SEEDS)}
        turns = in_turn(works, size.of(3, 1), warm=False)
        what = f"{method}, {size.of(SEEDS, 2)} seeds, {epochs} epochs: one after another / at once"
        ratio = Ratio(what, turns["1"], turns[f"{SEEDS}"], 3.0, at_least=True, unit=" s")
        found.ratios.append(ratio)
    found.notes.append(
        "`eq.compare` on HTAD with one worker, with all that belongs to a run and a comparison: validation, "
        "diagnoses, probes, floor, statistics and the report."
    )
    return found


def comparing(method: str, side_by_side: int, size: Size) -> Callable[[], object]:
    out = folder() / f"seeds-{side_by_side}"
    options = {"seeds": size.of(SEEDS, 2), "epochs": size.of(60, 1), "workers": 1, "out": out}

    def work() -> None:
        shutil.rmtree(out, ignore_errors=True)
        eq.compare(HTAD, [method], side_by_side=side_by_side, **options)

    return work
