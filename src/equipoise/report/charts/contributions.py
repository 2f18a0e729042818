"""The chart of what each modality contributes to the joint prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import altair as alt

from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.report.charts import look
from equipoise.report.charts.chart import Chart, Key, Panel
from equipoise.report.text.tables import Cell, Table, rounded
from equipoise.report.text.wording import between, decimal

BAR_ROW: Final = 30
FIGURES: Final = {
    "alone": "with it only",
    "drop_removed": "drop when removed",
    "drop_permuted": "drop when permuted",
    "drop_averaged": "drop when averaged",
    "shapley": "Shapley value",
}


def contributions(measured: Contributions) -> Chart | None:
    """Return the contribution of each modality: score without the others, drops, Shapley value, intervals."""
    own = dict(measured.items())
    drawn = {
        key: label
        for key, label in FIGURES.items()
        if any(math.isfinite(float(getattr(item, key))) for item in own.values())
    }
    if not own or not drawn:
        return None
    colors, panels = look.modality_colors(list(own)), []
    differences = [
        value
        for key in drawn
        if key != "alone"
        for item in own.values()
        for value in (0.0, float(getattr(item, key)), *item.intervals.get(key, ()))
    ]
    for key, label in drawn.items():
        if key == "alone":
            unit, dashed = measured.metric, {measured.score: "dash", measured.baseline: "dot"}
            reach = look.padded([0.0, measured.score, *(float(item.alone) for item in own.values())])
        else:
            unit, dashed, reach = f"difference of {measured.metric}", {0.0: "line"}, look.padded(differences)
        drawing = _bars(own, key, colors, unit, reach, dashed)
        panels.append(
            Panel(label, f"{label} of each modality, {measured.metric} on {measured.split}", drawing)
        )
    full, none = (decimal(value, 3) for value in (measured.score, measured.baseline))
    caption = (
        f"On the {measured.split} split. The joint model with all modalities scores {full} (dashed), with "
        f"none {none} (dotted). Drops and Shapley values are differences of that score; thin lines are "
        "95 % intervals."
    )
    return Chart(
        "contributions",
        "Contribution of each modality",
        caption,
        panels,
        min(3, len(panels)),
        [Key(look.heading(name), colors[name], "band") for name in own],
        _table(own, drawn, measured.metric),
    )


def _bars(
    own: Mapping[str, Any],
    key: str,
    colors: Mapping[str, str],
    unit: str,
    reach: Sequence[float] | None,
    dashed: Mapping[float, str],
) -> alt.LayerChart:
    rows = [{"modality": name, "value": float(getattr(item, key))} for name, item in own.items()]
    ends = [
        {"modality": name, "low": float(low), "high": float(high), "span": between(low, high)}
        for name, item in own.items()
        if key in item.intervals
        for low, high in [item.intervals[key]]
    ]
    axis = alt.Axis(labelLimit=110, grid=False)
    y = alt.Y("modality:N", sort=list(own), title=None, axis=axis, scale=alt.Scale(padding=0.38))

    def across(field: str) -> alt.X:
        return look.x_axis(field, unit, reach, ticks=5, grid=True)

    shown = look.tips(modality="", span=("", "95 % interval"))
    bars = look.source(rows).mark_bar().encode(across("value"), y, look.by_color("modality", colors))
    return look.layered(
        bars.encode(tooltip=look.tips(modality="", value=(".3f", unit))),
        *(look.rules([value], across("value"), "value", dash) for value, dash in dashed.items()),
        *(look.whiskers(ends, across, y, shown, 8) if ends else ()),
        height=BAR_ROW * len(own),
    )


def _table(own: Mapping[str, Any], drawn: Mapping[str, str], metric: str) -> Table:
    rows = []
    for name, item in own.items():
        cells = {"modality": Cell(name)}
        for key, label in drawn.items():
            value, ends = float(getattr(item, key)), item.intervals.get(key)
            cells[label] = replace(rounded(value), note=between(*map(float, ends)) if ends else "")
        rows.append(cells)
    return Table.of(f"In {metric}, with 95 % intervals.", rows)
