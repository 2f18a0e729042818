"""The pictures of the league."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import altair as alt
from analysis import League

from equipoise.files.whole import write_atomically
from equipoise.report.charts.look import GRID, INK, MUTED, PALETTE, layered, source
from equipoise.report.render import file_bytes

WIDTH = 620
STEP = 15
"""Height of the line of a method within a set, in pixels."""


def save(drawing: alt.LayerChart, path: Path) -> None:
    write_atomically(path, file_bytes(drawing, "svg").decode())


def gains(league: League, methods: Sequence[str]) -> alt.LayerChart:
    """Draw the gain of some methods over joint training on each set, with intervals."""
    rows, titles, y = [], [], 0.0
    for one in league.sets:
        titles.append({"y": y + (len(methods) - 1) / 2, "text": one.title, "x": 0})
        for name in methods:
            mean, low, high, _ = one.gain(name)
            rows.append({"method": name, "y": y, "x": 100 * mean, "low": 100 * low, "high": 100 * high})
            y += 1
        y += 1.2
    height = STEP * y
    reach = [min(row["low"] for row in rows), max(row["high"] for row in rows)]
    colors = alt.Scale(domain=list(methods), range=list(PALETTE[: len(methods)]))
    color = alt.Color(
        "method:N", scale=colors, legend=alt.Legend(title=None, orient="top", columns=2, columnPadding=40)
    )
    axis = alt.Axis(title="points over joint training", grid=True, gridColor=GRID)
    x = alt.X("x:Q", axis=axis, scale=alt.Scale(domain=reach, nice=True))
    place = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[y - 0.5, -1], nice=False))
    base = source(rows)
    zero = source([{"x": 0}]).mark_rule(color=INK, strokeWidth=1).encode(alt.X("x:Q"))
    lines = base.mark_rule(strokeWidth=1.6).encode(alt.X("low:Q"), alt.X2("high:Q"), place, color)
    dots = base.mark_point(filled=True, size=55, opacity=1).encode(x, place, color)
    names = source(titles).mark_text(align="right", color=INK, fontSize=12, dx=-8)
    names = names.encode(y=place, x=alt.value(0), text="text:N")
    # Fonts of readers may be wider than the one that the room of the titles is measured with.
    padding = {"left": 45, "right": 10, "top": 5, "bottom": 5}
    return layered(zero, lines, dots, names, height=int(height)).properties(
        width=WIDTH - 220, padding=padding
    )


def costs(league: League, methods: Sequence[str]) -> alt.LayerChart:
    """Draw the mean gain of each method beside the work of the encoders."""
    rows = [
        {
            "method": name,
            "cost": league.passes(name),
            "gain": 100 * league.mean_gain(name, league.sets),
            "color": PALETTE[methods.index(name)] if name in methods else MUTED,
        }
        for name in league.names
    ]
    costs_of = [row["cost"] for row in rows]
    scale = alt.Scale(type="log", domain=[0.75 * min(costs_of), 1.4 * max(costs_of)], nice=False)
    axis = alt.Axis(
        values=[0.5, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 5, 10], grid=True, gridColor=GRID, format="~g"
    )
    x = alt.X("cost:Q", title="work of the encoders, multiples of joint training", scale=scale, axis=axis)
    y = alt.Y("gain:Q", title="mean gain over joint training, points", scale=alt.Scale(zero=False))
    color = alt.Color("color:N", scale=None)
    dots = source(rows).mark_point(filled=True, size=50, opacity=1).encode(x, y, color)
    sides = [  # most methods cost as much as joint training, or a little more
        source([row for row in rows if (row["cost"] > 1) == right])
        .mark_text(align="left" if right else "right", dx=7 if right else -7, fontSize=11)
        .encode(x, y, color, text="method:N")
        for right in (False, True)
    ]
    return layered(dots, *sides, height=360).properties(width=WIDTH - 60)
