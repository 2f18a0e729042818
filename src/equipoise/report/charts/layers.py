"""The strength of re-learning of each layer, where it differs by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import altair as alt

from equipoise.report.charts import look
from equipoise.report.charts.chart import Chart, Panel
from equipoise.report.text.tables import Cell, Table, rounded

LAYER_ROW: Final = 20
MOST_ROWS: Final = 60
"""Layers above which rows get lower instead of more; labels that would overlap are left out."""


def layer_strengths(strengths: Mapping[str, Mapping[str, float]]) -> Chart | None:
    """Return the strength of re-learning by layer, where it differs: modality to layer to strength."""
    held = {name: own for name, own in strengths.items() if own}
    if not held:
        return None
    colors, panels, rows = look.modality_colors(list(held)), [], []
    top = max(1e-3, *(value for own in held.values() for value in own.values() if math.isfinite(value)), 0.0)
    for name, own in held.items():
        drawing = _layers(own, colors[name], 1.05 * top)
        panels.append(Panel(look.heading(name), f"strength of re-learning of each layer of {name}", drawing))
        rows += [
            {"layer": Cell(layer), "modality": Cell(name), "strength": rounded(value)}
            for layer, value in own.items()
        ]
    caption = "0 leaves a layer as it is, 1 restores its initial weights. The first layer is on top."
    table = Table.of("Strength by layer.", rows, ("modality",))
    return Chart("layers", "Strength of re-learning per layer", caption, panels, 2, numbers=table)


def _layers(own: Mapping[str, float], color: str, top: float) -> alt.LayerChart:
    axis = alt.Axis(labelOverlap=True, labelLimit=160, grid=False)
    y = alt.Y("layer:N", title=None, sort=None, axis=axis, scale=alt.Scale(padding=0.3))
    x = look.x_axis("strength", "strength", [0, top], ticks=5, grid=True)
    bars = look.source({"layer": layer, "strength": value} for layer, value in own.items())
    drawn = bars.mark_bar(color=color).encode(x, y, tooltip=look.tips(layer="", strength=".3f"))
    return look.layered(drawn, height=LAYER_ROW * min(len(own), MOST_ROWS))
