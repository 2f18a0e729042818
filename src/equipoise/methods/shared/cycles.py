"""Training in cycles, in each of which the learning rate falls to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence


def cycle_ends(epochs: int, cycles: int, parts: Sequence[float] | None = None) -> list[int]:
    """Return the number of epochs until the end of each cycle, of nearly equal lengths, at least 1.

    With `parts` all cycles but the last end after these parts of the epochs, in place of `cycles`.
    """
    if parts is not None:
        inside = {math.floor(part * epochs + 0.5) for part in parts}
        return [*sorted(end for end in inside if 0 < end < epochs), epochs]
    count = max(1, min(cycles, epochs))
    return [(2 * epochs * (cycle + 1) + count) // (2 * count) for cycle in range(count)]


def in_last_cycle(epoch: int, epochs: int, cycles: int, parts: Sequence[float] | None = None) -> bool:
    """Return whether an epoch (0-based) belongs to the last cycle."""
    return epoch >= max([0, *cycle_ends(epochs, cycles, parts)[:-1]])


def at_rest(epoch: int, ends: Sequence[int]) -> bool:
    """Return whether an epoch (0-based) is in the last quarter of the last cycle.

    The rate of `restarted` is then below 15 % of its peak. At higher rates the scores on few validation
    samples jump, so that the best of them is a lucky one, of weights that are still in motion.
    """
    first = max([0, *ends[:-1]])
    return epoch >= ends[-1] - max(1, math.ceil((ends[-1] - first) / 4))


def at_peak(planned: Sequence[float]) -> list[float]:
    """Return learning rates that stay at the planned peak, after its warm-up."""
    peak = max(planned, default=0.0)
    warm = list(planned).index(peak) if planned else 0
    return [*planned[:warm], *[peak] * (len(planned) - warm)]


def restarted(planned: Sequence[float], ends: Sequence[int]) -> list[float]:
    """Return learning rates that fall from the planned peak to 0 by a half cosine in each cycle.

    `rate = peak * (1 + cos(pi * t / T)) / 2` in epoch `t` of a cycle of `T` epochs (Loshchilov and Hutter,
    ICLR 2017, arXiv 1608.03983). The warm-up before the planned peak stays; it belongs to the first cycle.
    """
    peak = max(planned, default=0.0)
    rates = list(planned[: list(planned).index(peak)]) if planned else []
    for end in ends:
        start, length = len(rates), end - len(rates)
        rates += [peak * (1 + math.cos(math.pi * t / length)) / 2 for t in range(end - start)]
    return rates


def too_short(epochs: int, cycles: int, parts: str) -> list[str]:
    """Return a warning if the cycles, which are called `parts`, have fewer than two epochs each."""
    if epochs >= 2 * cycles:
        return []
    return [f"{epochs} epochs for {cycles} {parts} are too few to learn in each; train longer, or use fewer."]
