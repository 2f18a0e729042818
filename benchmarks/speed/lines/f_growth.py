"""How a run grows with the number of samples and of modalities."""

from __future__ import annotations

from collections.abc import Callable

from sets import vectors
from turns import Found, Ratio, Size, in_turn

import equipoise as eq

TITLE = "Growth with samples and modalities"


def measure(size: Size) -> Found:
    found, base, rounds = Found(), size.of(4000, 120), size.of(3, 1)
    factors = size.of((1, 2, 4, 8), (1, 2))
    turns = in_turn({f"{k}": fitting(k * base, 2, size) for k in factors}, rounds, warm=not size.quick)
    for k in factors[1:]:
        what = f"N x {k}, seconds / {k} times those of N = {base:,}"
        found.ratios.append(Ratio(what, turns[f"{k}"], turns["1"], 1.15, expected=k, unit=" s"))
    counts = size.of((2, 3, 6), (2, 3))
    turns = in_turn({f"{m}": fitting(base, m, size) for m in counts}, rounds, warm=not size.quick)
    for m in counts[1:]:
        what = f"M = {m}, seconds / {m}/2 times those of M = 2"
        found.ratios.append(Ratio(what, turns[f"{m}"], turns["2"], 1.15, expected=m / 2, unit=" s"))
    found.notes.append(
        "Whole runs of Diagnosing & Re-learning with MLPs on vectors of 32 numbers in 7 classes, 12 "
        "epochs, with everything that a run does by default. A ratio below 1 is due to what does not grow."
    )
    return found


def fitting(count: int, modalities: int, size: Size) -> Callable[[], object]:
    data, epochs = vectors(count, modalities), size.of(12, 6)
    return lambda: eq.fit(data, "diagnose-relearn", epochs=epochs)
