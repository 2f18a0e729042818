"""What is printed of a tuning: trials, validation figures of defaults and winner, and its settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from equipoise.cli.tables import make_table, number, print_prose
from equipoise.experiments.compare.tuned import COMMON, Tuned

HEADS = ("method", "finished", "pruned", "failed", "defaults", "winner", "gain", "settings of the winner")


def print_tuning(console: Console, tuned: Tuned) -> None:
    """Print what a tuning found."""
    seeds = ", ".join(map(str, tuned.seeds))
    print_prose(
        console,
        f"{tuned.dataset}, {tuned.trials} trials of {tuned.settings['epochs']} epochs for each method, "
        f"validation {tuned.figure}, seed {seeds}\n",
    )
    _print_rows(console, {name: vars(own) for name, own in tuned.methods.items()})


def print_tuning_of(console: Console, tuning: Mapping[str, Any]) -> None:
    """Print what the summary of a comparison says about the tuning of its methods."""
    seeds = ", ".join(map(str, tuning["seeds"]))
    print_prose(
        console,
        f"\nTuned with {tuning['trials']} trials for each method, by validation {tuning['figure']}, "
        f"seed {seeds}:\n",
    )
    _print_rows(console, tuning["methods"])


def _print_rows(console: Console, methods: Mapping[str, Mapping[str, Any]]) -> None:
    rows = []
    for name, own in methods.items():
        default, best = (math.nan if own[key] is None else own[key] for key in ("default", "best"))
        counts = [str(own[key]) for key in ("finished", "pruned", "failed")]
        figures = [number(default), number(best), number(best - default, "+.3f")]
        rows.append([name, *counts, *figures, in_words(own)])
    console.print(make_table(HEADS, rows))


def in_words(own: Mapping[str, Any]) -> str:
    """Return the settings of the winner; of its options those that were searched or set."""
    chosen = {name: own["chosen"][name] for name in COMMON if name in own["chosen"]}
    pairs = {**chosen, **own["options"]}
    shown = ", ".join(f"{name}={_short(value)}" for name, value in pairs.items())
    return f"{shown} (the defaults)" if own["trial"] == 0 else shown


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
