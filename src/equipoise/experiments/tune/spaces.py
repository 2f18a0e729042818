"""What is searched for a method: its own options, and the settings that are searched for all methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.experiments.compare.tuned import COMMON
from equipoise.methods import METHODS, base_names, create_method
from equipoise.methods.core.combination import SEPARATOR
from equipoise.methods.core.search import LogUniform, Range
from equipoise.training.settings import Budget


def search_space(method: str, budget: Budget, fixed: Mapping[str, Any]) -> dict[str, Range]:
    """Return the ranges by name: those of `COMMON`, and the options of the method that are not `fixed`.

    A learning rate or a weight decay of 0 was set on purpose, and is kept. Options of a combination are named
    as `method.option`.
    """
    found: dict[str, Range] = {}
    for name in COMMON:
        if value := getattr(budget, name):
            found[name] = LogUniform.around(value)
    combined = SEPARATOR in method
    for base in base_names(method):
        for option, allowed in METHODS[base].search_space.items():
            name = f"{base}.{option}" if combined else option
            if name not in fixed:
                found[name] = allowed
    return found


def default_values(method: str, budget: Budget, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default of everything that `search_space` returns."""
    options = create_method(method, fixed).options()
    return {
        name: getattr(budget, name) if name in COMMON else options[name]
        for name in search_space(method, budget, fixed)
    }


def separated(values: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the settings of `COMMON` among some values, and the options of the method."""
    chosen = {name: float(value) for name, value in values.items() if name in COMMON}
    return chosen, {name: value for name, value in values.items() if name not in COMMON}
