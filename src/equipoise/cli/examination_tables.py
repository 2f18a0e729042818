"""The tables at the end of a diagnosis."""

from __future__ import annotations

import math

from rich.table import Table

from equipoise.cli.tables import make_table, number
from equipoise.experiments.examine.examination import Examination


def examination_tables(found: Examination) -> list[Table]:
    """Return verdict and learning state of every modality, and what each contributes."""
    columns = ["modality", "verdict"]
    states = []
    for name, state in found.learning.items():
        verdict = found.verdicts[name]
        states.append(
            [
                name,
                verdict.state + ("" if verdict.certain else " (close)"),
                number(state.train_score),
                number(state.val_score),
                _with_interval(state.train_score - state.val_score, state.interval),
                number(state.strength() if math.isfinite(state.gap) else math.nan),
            ]
        )
    metric = found.learning.options.metric
    columns += [f"{metric} train", f"{metric} val", "gap [95 %]", "strength"]
    own, rows = found.contributions, []
    for name, item in own.items():
        refitted = (own.refitted or {}).get(name, math.nan)
        drop = _with_interval(item.drop_averaged, item.intervals.get("drop_averaged"))
        shapley = _with_interval(item.shapley, item.intervals.get("shapley"))
        rows.append([name, number(refitted), number(item.alone), drop, shapley])
    title = (
        f"contribution to the {found.through}'s {own.metric} on {own.split}: {number(own.score)}, "
        f"chance {number(own.chance)}"
    )
    heads = ["modality", "new head alone", "alone", "drop without [95 %]", "Shapley value [95 %]"]
    return [make_table(columns, states), make_table(heads, rows, title)]


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return f"{value:+.3f}"
    return f"{value:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"
