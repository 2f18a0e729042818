"""A chart as one picture for a paper: title, legend and all panels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

import altair as alt

from equipoise.report.charts.chart import Chart, Key
from equipoise.report.charts.look import DASHES, INK, SHAPES, layered, source

WIDTHS: Final = {1: 640, 2: 760, 3: 900}
"""Pixels of a figure by the panels side by side; 640 are a text width of 6.4 inches at 300 dpi."""
COLUMN: Final = 330
"""Pixels of a figure in the column of a page with two, 3.3 inches; letters keep their size."""
AXIS: Final = 62
"""Pixels that the labels of a vertical axis take."""
LETTER: Final = 7.0
LINE: Final = 20
VERBATIM: Final = {
    "shape": alt.Shape,
    "fill": alt.Fill,
    "stroke": alt.Stroke,
    "dash": alt.StrokeDash,
    "opacity": alt.Opacity,
}
"""Channels whose values are written in the rows of a legend."""
CHANNELS: Final = ("color", "fill", "stroke", "shape", "size", "fillOpacity", "strokeDash", "opacity")
"""Scales that the parts of a figure must not share."""
SAMPLES: Final = {
    **dict.fromkeys(DASHES, ("M-1,0L1,0", False)),
    "rule": ("M0,-1L0,1", False),
    "bar": ("M-1,0L1,0M0,-0.6L0,0.6", False),
    "dots": ("circle", False),
    "disc": ("circle", True),
    "band": ("square", True),
    "tint": ("square", True),
    **{shape: (shape, True) for shape in SHAPES},
}
"""The sample of each kind of key: its outline, and whether it is filled."""


def figure(chart: Chart, *, narrow: bool = False) -> alt.VConcatChart:
    """Return a chart as one picture; a `narrow` one fills one of two columns of a page."""
    beside = 1 if narrow else min(chart.columns, 3)
    columns = min(beside, len(chart.panels))
    whole = COLUMN if narrow else WIDTHS[beside] * columns / beside
    width = whole / columns - AXIS
    panels = [
        panel.drawing.properties(width=width, title=_title(panel.heading, 14, width))
        for panel in chart.panels
    ]
    parts = [alt.concat(*panels, columns=columns, spacing={"row": 14, "column": 18})]
    keys = [key for key in chart.legend if not key.hidden]
    if keys:
        parts.insert(0, _legend(keys, whole - AXIS))  # it begins where the panels do, beside their labels
    drawn = alt.vconcat(*parts, spacing=10).properties(title=_title(chart.title, 17, whole))
    return drawn.resolve_scale(**dict.fromkeys(CHANNELS, "independent"))


def _title(text: str, size: int, width: float) -> alt.TitleParams:
    lines = textwrap.wrap(text, max(12, int(2 * width / size))) or [""]
    # In the weight of all other text: several fonts in one PDF are numbered differently from call to call.
    style = {"fontSize": size, "fontWeight": "normal"}
    return alt.TitleParams(text=lines, anchor="start", frame="group", offset=8, **style)


def _legend(keys: Sequence[Key], width: float) -> alt.LayerChart:
    """Return the keys side by side, in as many lines as they need; the width of a text is estimated."""
    rows, x, line = [], 0.0, 0
    for key in keys:
        room = LETTER * len(key.label) + 40
        if x and x + room > width:
            x, line = 0.0, line + 1
        shape, filled = SAMPLES[key.mark]
        dash = DASHES.get(key.mark, DASHES["dash" if key.mark == "rule" else "line"])
        row = {"label": key.label, "x": x + 9, "text": x + 24, "y": line, "shape": shape, "stroke": key.color}
        row |= {"fill": key.color if filled else "transparent", "dash": dash}
        rows.append({**row, "opacity": 0.25 if key.mark == "tint" else 1.0})
        x += room
    along = alt.Scale(domain=[0, width], nice=False)
    y = alt.Y("y:O", axis=None, scale=alt.Scale(domain=list(range(line + 1))))
    samples = (
        source(rows)
        .mark_point(size=110, strokeWidth=2)
        .encode(
            alt.X("x:Q", axis=None, scale=along),
            y,
            *(channel(f"{name}:N", scale=None) for name, channel in VERBATIM.items()),
        )
    )
    texts = source(rows).mark_text(align="left", fontSize=12, color=INK, limit=width - 24)
    labels = texts.encode(alt.X("text:Q", axis=None, scale=along), y, text="label:N")
    return layered(samples, labels, height=LINE * (line + 1)).properties(width=width)
