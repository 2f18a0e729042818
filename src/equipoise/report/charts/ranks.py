"""The critical-difference diagram (Demšar, JMLR 7, 2006): mean ranks, with bars over equal methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import altair as alt

from equipoise.experiments.compare.across import ALPHA, AcrossDatasets
from equipoise.experiments.compare.comparison import BASELINE
from equipoise.report.charts.look import INK, MUTED, PALETTE, layered, source
from equipoise.report.text.evidence import TREATMENT

WIDTH: Final = 440
"""Of the axis in pixels; the names are beside it."""
ROW, LEVEL = 20, 7
LETTER: Final = 7.2
"""Room for a letter of a name, in pixels."""
BARS: Final = MUTED
COLORS: Final[Mapping[str, str]] = {BASELINE: INK, TREATMENT: PALETTE[0]}


def critical_difference(across: AcrossDatasets, colors: Mapping[str, str] = COLORS) -> alt.LayerChart:
    """Return the diagram: rank 1 on the left, a bar over methods that Nemenyi's test does not separate.

    Names are outside the axis, so the drawing has a fixed width (`WIDTH`) and its own padding. `colors` are
    those of methods; the others are grey.
    """
    count, bars = len(across.names), _bars(across)
    top = LEVEL * (1 + max((bar["level"] for bar in bars), default=-1)) + 14
    rows = _rows(across, top, colors)
    domain = [1 - 0.02 * count, count + 0.02 * count]
    ticks = [*range(1, count + 1)] if count <= 12 else [1, *range(5, count + 1, 5)]
    ink = {"labelColor": INK, "domainColor": INK, "tickColor": INK}
    axis = alt.Axis(orient="top", values=ticks, format="d", grid=False, ticks=True, **ink)
    x = alt.X("rank:Q", title=None, axis=axis, scale=alt.Scale(domain=domain, nice=False, zero=False))
    height = max(row["y"] for row in rows) + ROW / 2
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[height, 0], nice=False))
    layers = [*_names(rows, x, y)]
    if bars:
        bar = source({**bar, "y": 10 + LEVEL * bar["level"]} for bar in bars)
        layers.append(bar.mark_rule(color=BARS, strokeWidth=3.2).encode(x, alt.X2("last:Q"), y))
    # A longer bar than the axis would not fit; a sentence of the page says so.
    distance = across.critical_difference
    if distance <= count - 1:
        measure = source([{"rank": 1, "last": 1 + distance, "text": f"critical difference {distance:.1f}"}])
        line = measure.mark_rule(color=INK, strokeWidth=1.8).encode(x, alt.X2("last:Q"), y=alt.value(-34))
        end = measure.mark_tick(color=INK, orient="vertical", thickness=1.8, height=9, opacity=1)
        text = measure.transform_calculate(rank="(datum.rank + datum.last) / 2").mark_text(color=INK, dy=-11)
        layers += [line, end.encode(x, y=alt.value(-34)), end.encode(alt.X("last:Q"), y=alt.value(-34))]
        layers.append(text.encode(x, y=alt.value(-34), text="text:N"))
    sides = [max((len(r["label"]) for r in rows if r["left"] is left), default=0) for left in (True, False)]
    left, right = (int(LETTER * letters) + 14 for letters in sides)
    padding = {"left": left, "right": right, "top": 52 if distance <= count - 1 else 4, "bottom": 4}
    return layered(*layers, height=height).properties(width=WIDTH, padding=padding)


def _rows(across: AcrossDatasets, top: float, colors: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return each method with the height of its line: the better half on the left, the best on top."""
    names, rows = across.names, []
    half = (len(names) + 1) // 2
    for place, name in enumerate(names):
        left = place < half
        rank = across.mean_ranks[name]
        shown = f"{name} (experimental)" if name in across.experimental else name
        label = f"{shown}\N{EN SPACE}{rank:.1f}" if left else f"{rank:.1f}\N{EN SPACE}{shown}"
        y = top + ROW * (place if left else len(names) - 1 - place)
        color = colors.get(name, MUTED)
        rows.append({"rank": rank, "label": label, "left": left, "y": y, "color": color})
    return rows


def _bars(across: AcrossDatasets) -> list[dict[str, Any]]:
    """Return the longest runs of methods whose first and last do not differ, on levels without overlap."""
    names = list(across.names)
    p_values = across.p_values.loc[names, names].to_numpy(dtype=float)
    bars: list[dict[str, Any]] = []
    ends: list[float] = []  # of the last bar on each level
    reached = 0
    for first, name in enumerate(names):
        last = max(k for k in range(first, len(names)) if k == first or p_values[first, k] >= ALPHA)
        if last == first or last <= reached:
            continue
        reached = last
        start, end = across.mean_ranks[name], across.mean_ranks[names[last]]
        level = next((k for k, taken in enumerate(ends) if taken < start), len(ends))
        ends[level : level + 1] = [end]
        bars.append({"rank": start, "last": end, "level": level})
    return bars


def _names(rows: list[dict[str, Any]], x: alt.X, y: alt.Y) -> list[alt.Chart]:
    color = alt.Color("color:N", scale=None)
    layers = [
        source(rows).mark_rule(strokeWidth=1.2).encode(x, alt.Y2Value(0), y=y, color=color),
        source(rows).mark_point(filled=True, size=22, opacity=1).encode(x, y=alt.value(0), color=color),
    ]
    for left in (True, False):
        own = source(row for row in rows if row["left"] is left)
        edge = alt.value(-4) if left else alt.value(WIDTH + 4)
        line = own.mark_rule(strokeWidth=1.2).encode(x, alt.X2Value(0 if left else WIDTH), y=y, color=color)
        text = own.mark_text(align="right" if left else "left", fontSize=12)
        layers += [line, text.encode(x=edge, y=y, color=color, text="label:N")]
    return layers
