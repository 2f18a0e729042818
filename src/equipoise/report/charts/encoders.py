"""The chart of how good each encoder is by itself (Wei et al., ECCV 2024, Fig. 1b and c)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import altair as alt

from equipoise.report.charts import look
from equipoise.report.charts.chart import Chart, Key, Panel
from equipoise.report.text.tables import Cell, Table, amount, rounded, whole
from equipoise.report.text.wording import decimal, shortened

PAIRS: Final = 6
METHOD_KEYS: Final = 12
SPOTS: Final = (80, 680)
"""Area of the spots of the lowest and the highest multimodal accuracy, in square pixels."""


@dataclass(frozen=True)
class QualityPoint:
    """One run: the accuracy of each encoder under a new classifier, and that of the multimodal model."""

    method: str
    seed: int
    encoders: Mapping[str, float]
    accuracy: float


def encoder_quality(
    points: Sequence[QualityPoint],
    alone: Mapping[str, float],
    colors: Mapping[str, str] | None = None,
) -> Chart | None:
    """Return how good each encoder is under a new classifier.

    A spot a run, a panel a pair of modalities; the area of a spot grows with the multimodal accuracy. `alone`
    is the accuracy of each modality trained alone. Methods without given colours take those of the palette in
    turn.
    """
    names = list(dict.fromkeys(name for point in points for name in point.encoders))
    pairs = list(itertools.combinations(names, 2))
    methods = list(dict.fromkeys(point.method for point in points))
    styles = _styles(methods, colors)
    found = [point.accuracy for point in points if math.isfinite(point.accuracy)] or [0.0]
    panels = []
    for pair in pairs[:PAIRS]:
        held = [p for p in points if all(math.isfinite(p.encoders.get(name, math.nan)) for name in pair)]
        if held:
            said = f"accuracy of the encoders of {pair[0]} and {pair[1]} under a new classifier, by method"
            title = " and ".join(map(shortened, pair)) if len(pairs) > 1 else ""
            drawing = _pair(held, pair, alone, styles, (min(found), max(found)))
            panels.append(Panel(title, said, drawing))
    if not panels:
        return None
    caption = (
        "Accuracy on the validation split of a new classifier on each frozen encoder, a spot a run. The "
        f"larger the spot, the higher the multimodal accuracy: from {decimal(min(found), 3)} (smallest) to "
        f"{decimal(max(found), 3)} (largest)."
    )
    caption += " Dashed: the modality alone (its unimodal run)." if alone else ""
    caption += f" The first {PAIRS} of {len(pairs)} pairs are drawn." if len(pairs) > PAIRS else ""
    legend = [Key(look.heading(method), *style) for method, style in styles.items()]
    legend = legend if len(methods) <= METHOD_KEYS else []
    legend += [Key("alone", look.MUTED, "rule")] if alone else []
    table, columns = _table(points, names, alone), min(3, max(2, len(panels)))
    return Chart("encoder-quality", "Quality of the encoders", caption, panels, columns, legend, table)


def _styles(methods: Sequence[str], colors: Mapping[str, str] | None) -> dict[str, tuple[str, str]]:
    """Return colour and shape of each method: methods of one colour differ in shape."""
    styles: dict[str, tuple[str, str]] = {}
    for place, method in enumerate(methods):
        color = (colors or {}).get(method, look.PALETTE[place % len(look.PALETTE)])
        alike = sum(other == color for other, _ in styles.values())
        styles[method] = (color, look.SHAPES[alike % len(look.SHAPES)])
    return styles


def _pair(
    held: Sequence[QualityPoint],
    pair: tuple[str, str],
    alone: Mapping[str, float],
    styles: Mapping[str, tuple[str, str]],
    scale: tuple[float, float],
) -> alt.LayerChart:
    rows = [
        {
            "method": p.method,
            "seed": p.seed,
            "first": p.encoders[pair[0]],
            "second": p.encoders[pair[1]],
            "multimodal": p.accuracy if math.isfinite(p.accuracy) else scale[0],
        }
        for p in sorted(held, key=lambda p: -p.accuracy)  # small spots are drawn on top of large ones
    ]
    reach = [look.padded([*(p.encoders[n] for p in held), alone.get(n, math.nan)], share=0.15) for n in pair]
    titles = [f"{shortened(name, 24)}, accuracy" for name in pair]
    x = look.x_axis("first", titles[0], reach[0], ticks=6, grid=True)
    y = look.y_axis("second", titles[1], reach[1])
    colors = {method: color for method, (color, _) in styles.items()}
    shapes = alt.Scale(domain=list(styles), range=[shape for _, shape in styles.values()])
    sizes = alt.Scale(domain=list(scale), range=list(SPOTS), zero=False)
    spots = look.source(rows).mark_point(filled=True, fillOpacity=0.55, strokeWidth=1, strokeOpacity=1)
    shown = look.tips(
        method="",
        seed="d",
        first=(".3f", shortened(pair[0])),
        second=(".3f", shortened(pair[1])),
        multimodal=".3f",
    )
    return look.layered(
        look.rules([alone.get(pair[0], math.nan)], x, "first"),
        look.rules([alone.get(pair[1], math.nan)], y, "second"),
        spots.encode(
            x,
            y,
            look.by_color("method", colors),
            look.by_color("method", colors, alt.Stroke),
            alt.Shape("method:N", scale=shapes, legend=None),
            alt.Size("multimodal:Q", scale=sizes, legend=None),
            tooltip=shown,
        ),
        height=300,
    )


def _table(points: Sequence[QualityPoint], names: Sequence[str], alone: Mapping[str, float]) -> Table:
    def accuracies(found: Mapping[str, float]) -> dict[str, Cell]:
        own = {name: found.get(name, math.nan) for name in names}
        return {f"encoder of {name}": rounded(value) for name, value in own.items()}

    rows = [
        {
            "method": Cell(p.method),
            "seed": whole(p.seed),
            **accuracies(p.encoders),
            "multimodal": rounded(p.accuracy),
        }
        for p in points
    ]
    if alone:
        none = amount(None, "")
        rows.append({"method": Cell("alone"), "seed": none, **accuracies(alone), "multimodal": none})
    return Table.of("Accuracies of a new classifier on each encoder, and of the model.", rows)
