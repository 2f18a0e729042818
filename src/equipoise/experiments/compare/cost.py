"""The costs of the methods of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

COSTS: Final = (
    "forward_samples",
    "backward_samples",
    "train_seconds",
    "method_seconds",
    "peak_memory_bytes",
)
RELATIVE: Final = {
    "relative_forward": "forward_samples",
    "relative_backward": "backward_samples",
    "relative_seconds": "train_seconds",
}


def mean_cost(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean of each cost over the runs of one method, given the `result.json` or the row of each.

    Costs are samples passed forward and backward, seconds of training and of the method's own work, and peak
    memory in bytes. A cost is NaN if a run lacks it, as a mean over the others would be one of other seeds.
    """
    return {key: _mean([run.get(key) for run in runs]) for key in COSTS}


def relative_cost(own: Mapping[str, float], base: Mapping[str, float] | None) -> dict[str, float]:
    """Return costs as multiples of the baseline's; NaN where either is unknown or the baseline's is zero."""
    known = base or {}
    return {name: _ratio(own[key], known.get(key, math.nan)) for name, key in RELATIVE.items()}


def traits(runs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return whether a method is experimental and what data it was trained on; older records lack both."""
    held = list(runs)
    data = [str(run["train_data"]) for run in held if run.get("train_data")]
    return {
        "experimental": any(bool(run.get("experimental")) for run in held),
        "train_data": data[0] if data else None,
    }


def _mean(values: Sequence[Any]) -> float:
    """Return the mean of numbers; NaN where there is none, or one is missing."""
    if not values or any(value is None for value in values):
        return math.nan
    return math.fsum(float(value) for value in values) / len(values)


def _ratio(own: float, base: float) -> float:
    return own / base if base > 0 and math.isfinite(own) else math.nan
