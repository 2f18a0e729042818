"""Whether runs may be ranked against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from equipoise.experiments.compare.statistics import MIN_SEEDS

BUDGET: Final = "budget_fingerprint"
PER_COMPARISON: Final = {
    "data_fingerprint": "data",
    BUDGET: "budget (epochs, batch size, optimiser, learning rate, selection, augmentation)",
    "model": "model",
}
PER_SEED: Final = {
    "split_fingerprint": "splits",
    "init_fingerprint": "initial weights",
    "order_fingerprint": "order of the training batches",
    "device": "device",
}
CHANGED_DATA: Final = "changed by the method"
"""`train_data` in the record of a run whose method draws or changes training samples."""


def differences(results: Iterable[Mapping[str, Any]], budgets: Mapping[str, str] | None = None) -> list[str]:
    """Return the conditions in which finished runs differ, given the `result.json` of each.

    `budgets` are the fingerprints that the budgets of tuned methods must have, by method: those of one budget
    with the settings that were found for the method.
    """
    runs = list(results)
    found = [
        f"the runs differ in {what}"
        for key, what in PER_COMPARISON.items()
        if not (budgets and key == BUDGET) and len({run[key] for run in runs}) > 1
    ]
    if budgets and any(run[BUDGET] != budgets.get(run["method"]) for run in runs):
        found.append("the runs differ in more of their budget than what was tuned")
    for key, what in PER_SEED.items():
        by_seed: dict[int, set[str]] = {}
        for run in runs:
            value = run["environment"]["device"] if key == "device" else run[key]
            if key == "order_fingerprint" and run.get("train_data") == CHANGED_DATA:
                continue  # the method is meant to draw other samples; the reports say so
            if value:  # a method that trains nothing has no order
                by_seed.setdefault(run["seed"], set()).add(value)
        differing = sorted(seed for seed, values in by_seed.items() if len(values) > 1)
        if differing:
            found.append(f"the runs of seed {', '.join(map(str, differing))} differ in {what}")
    return found


def obstacles(results: Iterable[Mapping[str, Any]], budgets: Mapping[str, str] | None = None) -> list[str]:
    """Return the reasons against a ranking of finished runs; for the arguments see `differences`."""
    runs = list(results)
    found = differences(runs, budgets)
    seeds: dict[str, set[int]] = {}
    for run in runs:
        seeds.setdefault(run["method"], set()).add(run["seed"])
    if any(len(own) < MIN_SEEDS for own in seeds.values()):
        fewest = min(seeds, key=lambda method: len(seeds[method]))
        found.append(
            f"a ranking needs at least {MIN_SEEDS} seeds; {fewest} has {len(seeds[fewest])} "
            f"(--seeds {MIN_SEEDS})"
        )
    if len({frozenset(own) for own in seeds.values()}) > 1:
        found.append("the methods were run on different seeds")
    return found
