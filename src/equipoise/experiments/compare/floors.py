"""Which methods of a comparison do not beat a linear model on their own inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.decimals import fixed
from equipoise.training.measuring.floor import SENTENCE


def over_seeds(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the floor of a method in its runs, given the `result.json` of each; None if none has it.

    Returns:
        `mean`: of the floors; `difference`: mean of floor minus validation score; `below`: number of runs
        below their floor; `n`: number of runs with a floor.
    """
    held = [record["floor"]["own"] for record in records if record.get("floor")]
    if not held:
        return None
    return {
        "mean": math.fsum(own["score"] for own in held) / len(held),
        "difference": math.fsum(own["difference"] for own in held) / len(held),
        "below": sum(bool(own["below"]) for own in held),
        "n": len(held),
    }


def is_below(values: Mapping[str, Any]) -> bool:
    """Return whether a method, given its entry in the summary, is below its floor in most of its runs."""
    floor = values.get("floor") or {}
    return bool(floor) and 2 * floor["below"] > floor["n"]


def sentence(method: str, values: Mapping[str, Any]) -> str:
    """Say that a method is below its floor, with the figures."""
    return f"{method} {SENTENCE}: {_figures(values)}"


def marked(methods: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the figures of each method that is below its floor."""
    return {method: _figures(values) for method, values in methods.items() if is_below(values)}


def _figures(values: Mapping[str, Any]) -> str:
    floor = values["floor"]
    own, runs = fixed(floor["mean"] - floor["difference"]), f"{floor['below']} of {floor['n']} runs"
    return f"{own} on validation against {fixed(floor['mean'])} (below in {runs})"
