"""Figure 1: gain over joint training, and the quality of each encoder under a new classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from equipoise.experiments.compare.comparison import BASELINE, Comparison
from equipoise.experiments.paper.item import OURS
from equipoise.experiments.paper.reproduce import Reproduction
from equipoise.report.charts import look
from equipoise.report.charts.chart import Chart, Key, Panel
from equipoise.report.text.tables import Cell, Table, rounded
from equipoise.report.text.wording import Spread, number

ROW = 26
"""Height of a method, in pixels."""


def quality(found: Reproduction) -> Chart:
    """Return panels of each case: gain of each method, and the encoders of each modality."""
    panels, rows = [], []
    for case in found.cases:
        comparison, measured = found.comparisons[case.cell.name], found.quality[case.cell.name]
        before = f"{case.title}: " if len(found.cases) > 1 else ""
        gains = _gains(comparison)
        panels.append(_gain_panel(f"{before}gain over joint", gains))
        rows += [_row(f"{before}gain", r["method"], r["gain"], r["low"], r["high"]) for r in gains]
        for modality, alone in measured.alone.items():
            encoders = {method: own[modality] for method, own in measured.encoders.items()}
            heading, reference = f"{before}encoder of {modality}", Spread.of(alone)
            panels.append(_encoder_panel(heading, encoders, reference.mean))
            spreads = {**{m: Spread.of(values) for m, values in encoders.items()}, "alone": reference}
            rows += [_row(heading, method, s.mean, s.low, s.high) for method, s in spreads.items()]
    caption = (
        "Gain: mean difference to joint training over seeds, with Student's 95 % interval. Encoders: test "
        "accuracy of a new linear classifier on the frozen encoder, a dot a seed and a tick the mean; "
        "dashed: the modality trained alone. The axes of encoders do not start at zero."
    )
    legend = [
        Key("mean", look.INK, "rule"),
        Key("one seed", look.MUTED, "disc"),
        Key("alone", look.MUTED, "dash"),
    ]
    table = Table.of("Gains with their intervals; accuracies with their range over seeds.", rows, ("method",))
    return Chart("quality", "", caption, panels, 2, legend, table)


def _row(panel: str, method: str, value: float, low: float, high: float) -> dict[str, Cell]:
    return {
        "panel": Cell(panel),
        "method": Cell(method),
        "value": rounded(value),
        "low": rounded(low),
        "high": rounded(high),
    }


def _gains(comparison: Comparison) -> list[dict[str, Any]]:
    rows = []
    for method, values in comparison.summary["methods"].items():
        block = values.get(f"difference_to_{BASELINE}")
        if block and not method.startswith("unimodal:"):
            keys = {"gain": "mean", "low": "low", "high": "high"}
            rows.append({"method": method, **{own: number(block[key]) for own, key in keys.items()}})
    return rows


def _names(methods: Sequence[str]) -> alt.Y:
    axis = alt.Axis(grid=False, labelColor=look.INK, labelLimit=150)
    return alt.Y("method:N", title=None, sort=list(methods), axis=axis)


def _colors(methods: Sequence[str]) -> dict[str, str]:
    return {method: look.PALETTE[0] if method == OURS else look.MUTED for method in methods}


def _gain_panel(heading: str, rows: Sequence[Mapping[str, Any]]) -> Panel:
    methods = [row["method"] for row in rows]
    ends = [row[key] for row in rows for key in ("gain", "low", "high")]
    reach = look.padded([*ends, 0.0])

    def across(field: str) -> Any:
        return look.x_axis(field, "difference in test accuracy", reach, ticks=6, grid=True)

    y, color = _names(methods), look.by_color("method", _colors(methods))
    bars = look.source({**row, "zero": 0.0} for row in rows)
    tips = look.tips(method="", gain="+.3f", low="+.3f", high="+.3f")
    bar = bars.mark_bar(opacity=0.75, height={"band": 0.6})
    held = [row for row in rows if math.isfinite(row["low"])]
    return Panel(
        heading,
        f"{heading}, by method",
        look.layered(
            bar.encode(across("zero"), alt.X2("gain:Q"), y, color, tooltip=tips),
            look.rules([0.0], across("zero"), "zero", "line"),
            *look.whiskers(held, across, y, tips, 8),
            height=ROW * max(1, len(rows)),
        ),
    )


def _encoder_panel(heading: str, encoders: Mapping[str, Sequence[float]], alone: float) -> Panel:
    methods = list(encoders)
    dots = [{"method": method, "value": value} for method, own in encoders.items() for value in own]
    means = [{"method": method, "value": Spread.of(own).mean} for method, own in encoders.items()]
    reach = look.padded([*(value for own in encoders.values() for value in own), alone])
    x = look.x_axis("value", "test accuracy", reach, ticks=6, grid=True)
    y, color, tips = (
        _names(methods),
        look.by_color("method", _colors(methods)),
        look.tips(method="", value=".3f"),
    )
    tick = look.source(means).mark_tick(orient="vertical", thickness=3, height=16, opacity=1)
    return Panel(
        heading,
        f"{heading} under a new classifier, by method",
        look.layered(
            look.rules([alone], x, "value"),
            look.source(dots).mark_point(filled=True, size=55, opacity=0.5).encode(x, y, color, tooltip=tips),
            tick.encode(x, y, color, tooltip=tips),
            height=ROW * max(1, len(methods)),
        ),
    )
