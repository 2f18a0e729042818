"""The strength of re-learning of each layer, where it differs by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from equipoise.report.figures import Chart, Panel, axis_title, layout
from equipoise.report.learning_charts import modality_colors
from equipoise.report.tables import Cell, Table, amount
from equipoise.report.wording import chart_text, decimal, shortened

LAYER_ROW: Final = 20
LAYER_NAMES: Final = 40


def layer_strengths(strengths: Mapping[str, Mapping[str, float]]) -> Chart | None:
    """Return the strength of re-learning of each layer, where it differs by layer.

    Args:
        strengths: modality to layer to strength, in the order of the layers.
    """
    held = {name: own for name, own in strengths.items() if own}
    if not held:
        return None
    colors, panels, rows = modality_colors(list(held)), [], []
    top = max(1e-3, *(value for own in held.values() for value in own.values() if math.isfinite(value)), 0.0)
    for name, own in held.items():
        figure = _layers(name, own, colors[name], 1.05 * top)
        panels.append(Panel(shortened(name), f"strength of re-learning of each layer of {name}", figure))
        rows += [[Cell(layer), Cell(name), amount(value, decimal(value, 3))] for layer, value in own.items()]
    caption = "0 leaves a layer as it is, 1 restores its initial weights. First layers stand on top."
    table = Table("Strength by layer.", ["layer", "modality", "strength"], rows, frozenset({1}))
    return Chart("layers", "Strength of re-learning per layer", caption, panels, 2, numbers=table)


def _layers(name: str, own: Mapping[str, float], color: str, top: float) -> dict[str, Any]:
    places = list(range(len(own)))
    step = math.ceil(len(own) / LAYER_NAMES)
    texts = [chart_text(layer, 22) for layer in own]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [value if math.isfinite(value) else None for value in own.values()],
        "y": places,
        "width": 0.7,
        "marker": {"color": color},
        "customdata": [chart_text(layer, 60) for layer in own],
        "hovertemplate": f"{chart_text(name)}, %{{customdata}}<br>strength %{{x:.3f}}<extra></extra>",
    }
    ticks = {"tickvals": places[::step], "ticktext": texts[::step], "showgrid": False}
    frame = layout(
        int(LAYER_ROW * min(len(own), 1.5 * LAYER_NAMES)) + 60,
        x={"title": axis_title("strength"), "range": [0, top], "nticks": 5, "showgrid": True},
        y={**ticks, "range": [len(own) - 0.4, -0.6]},
    )
    return {"data": [bars], "layout": frame}
