"""What a comparison of tuned methods says about their tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.report.text.tables import Cell, Table, amount, rounded, whole
from equipoise.report.text.wording import counted, decimal, listed, number
from equipoise.tasks import CLASSIFICATION, task_named


def tuning_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Return the table of the trials of each method and of what they gave, for a `summary.json` with them."""
    tuning = summary.get("tuning")
    if not tuning:
        return []
    names = task_named(str(summary.get("task", CLASSIFICATION.name))).figures
    figure = names.get(tuning["figure"], tuning["figure"])
    rows = [_row(method, own) for method, own in tuning["methods"].items()]
    seeds = [str(seed) for seed in tuning["seeds"]]
    noun = "seed" if len(seeds) == 1 else "seeds"
    caption = (
        f"Tuning: {counted(tuning['trials'], 'trial')} for each method, by {figure} on validation with "
        f"{noun} {listed(seeds)}, which none of the compared runs has. The first trial has the defaults, so "
        "the winner is at least as good on validation; being the best of many, its figure there is too "
        "favourable. No trial opened the test split."
    )
    return [Table.of(caption, rows, ("settings of the winner",))]


def _row(method: str, own: Mapping[str, Any]) -> dict[str, Cell]:
    default, best = number(own["default"]), number(own["best"])
    gain = best - default
    return {
        "method": Cell(method),
        "finished": whole(own["finished"]),
        "stopped early": whole(own["pruned"]),
        "failed": whole(own["failed"]),
        "validation, defaults": rounded(default),
        "validation, winner": rounded(best),
        "gain": amount(gain, decimal(gain, 3, signed=True)),
        "settings of the winner": Cell(_settings(own)),
    }


def _settings(own: Mapping[str, Any]) -> str:
    pairs = {**own["chosen"], **own["options"]}
    shown = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in pairs.items()
    )
    return f"{shown} (the defaults)" if own["trial"] == 0 else shown
