"""The common look of all charts, and the marks that several of them share.

Colours are variables of the page's style sheet, so that a chart follows light and dark without being drawn
again; figures for papers get the values of the light scheme (see `render`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import altair as alt

from equipoise.report.text.wording import shortened

INK, MUTED, GRID, PAPER = (f"var(--{name})" for name in ("ink", "muted", "grid", "paper"))
PALETTE: Final = tuple(f"var(--c{place})" for place in range(1, 7))
"""Colours of methods, or of classes: no page has charts of both."""
MODALITIES: Final = tuple(f"var(--m{place})" for place in range(1, 7))
"""Those of modalities: none means something else on the same page."""
ROW: Final = 46
"""Height of a row of dots with a line of text above it, in pixels."""
DASHES: Final[Mapping[str, list[int]]] = {
    "line": [1, 0],
    "dash": [7, 4],
    "dot": [2, 3],
    "dashdot": [7, 3, 2, 3],
    "longdash": [12, 4],
    "longdashdot": [12, 3, 2, 3],
    "sparse": [2, 6],
}
SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
Rows = Iterable[Mapping[str, Any]]


def source(rows: Rows) -> alt.Chart:
    """Return a chart of these rows without a mark."""
    return alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))


def _axis(
    channel: Any,
    field: str,
    title: str,
    domain: Sequence[float] | None = None,
    *,
    ticks: int,
    grid: bool,
    form: str = "",
    labels: bool = True,
) -> Any:
    """Return an axis of numbers; `form` is the format of its labels."""
    axis = alt.Axis(tickCount=ticks, grid=grid, labels=labels, **({"format": form} if form else {}))
    reach = {} if domain is None else {"domain": list(domain)}
    scale = alt.Scale(zero=False, nice=False, **reach)
    return channel(f"{field}:Q", title=title, axis=axis, scale=scale)


x_axis = partial(_axis, alt.X, ticks=8, grid=False)
y_axis = partial(_axis, alt.Y, ticks=6, grid=True)


def by_color(field: str, colors: Mapping[str, str], channel: Any = alt.Color) -> Any:
    """Colour marks, or what `channel` is of them, by the value of a field."""
    scale = alt.Scale(domain=list(colors), range=list(colors.values()))
    return channel(f"{field}:N", scale=scale, legend=None)


def tips(**fields: str | tuple[str, str]) -> list[alt.Tooltip]:
    """Return what a mark shows when pointed at: field to the format of its numbers, or format and title."""
    found = []
    for field, entry in fields.items():
        form, title = (entry, field) if isinstance(entry, str) else entry
        more = {"format": form} if form else {}
        found.append(alt.Tooltip(f"{field}:{'Q' if form else 'N'}", title=title, **more))
    return found


def curve(
    rows: Sequence[Mapping[str, Any]],
    x: alt.X,
    y: alt.Y,
    color: str,
    dash: str,
    tooltip: Sequence[alt.Tooltip],
) -> alt.Chart:
    """Return a line through the rows in their order; a value that is not finite leaves a gap.

    The points of the line are invisible, unless there is only one, and show the numbers when pointed at.
    """
    point = alt.OverlayMarkDef(opacity=int(len(rows) < 2), size=60, color=color)
    style = {"color": color, "strokeDash": DASHES[dash], "strokeWidth": 2.3}
    line = source(rows).mark_line(point=point, clip=True, order=False, **style)
    return line.encode(x, y, tooltip=list(tooltip))


def band(rows: Rows, x: alt.X, low: alt.Y, high: str, color: str) -> alt.Chart:
    """Return the area between two curves."""
    area = source(rows).mark_area(color=color, opacity=0.16, clip=True, order=False, tooltip=None)
    return area.encode(x, low, y2=f"{high}:Q")


def rules(values: Iterable[float], channel: alt.X | alt.Y, field: str, dash: str = "dash") -> alt.Chart:
    """Return lines across the whole drawing at these values of an axis."""
    rows = [{field: value} for value in values if math.isfinite(value)]
    return source(rows).mark_rule(color=MUTED, strokeDash=DASHES[dash], strokeWidth=1).encode(channel)


def whiskers(rows: Rows, across: Any, y: alt.Y, tooltip: Any, height: float) -> list[alt.Chart]:
    """Return thin lines from `low` to `high`, with ends; `across` gives the horizontal axis of a field."""
    base = source(rows).encode(y=y, tooltip=tooltip)
    line = base.mark_rule(color=INK, strokeWidth=1.5).encode(across("low"), alt.X2("high:Q"))
    end = base.mark_tick(color=INK, orient="vertical", thickness=1.5, height=height, opacity=1)
    return [line, *(end.encode(across(field)) for field in ("low", "high"))]


def place_axis(rows: int, bottom: float = 0.5, field: str = "place") -> alt.Y:
    """Return the hidden vertical axis of `rows` rows of dots; place 0 is the lowest row."""
    scale = alt.Scale(domain=[-bottom, rows - 0.2], nice=False, zero=False)
    return alt.Y(f"{field}:Q", axis=None, scale=scale)


def row_labels(rows: Rows, y: alt.Y) -> list[alt.Chart]:
    """Write `name` over each row's left end and `note` over its right one, on the page's colour."""
    base, marks = source(rows).encode(y), []
    for field, x, align, color, size in (
        ("name", alt.value(0), "left", INK, 13),
        ("note", alt.value("width"), "right", MUTED, 12),
    ):
        for outline in ({"stroke": PAPER, "strokeWidth": 6, "strokeJoin": "round"}, {}):
            text = base.mark_text(align=align, dy=-17, color=color, fontSize=size, **outline)
            marks.append(text.encode(x=x, text=f"{field}:N"))
    return marks


def layered(*layers: alt.Chart | None, height: float) -> alt.LayerChart:
    """Return one drawing of these layers, the first at the bottom; its width is chosen where it is shown."""
    return alt.layer(*(layer for layer in layers if layer is not None)).properties(height=height)


def modality_colors(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each modality."""
    return {name: MODALITIES[place % len(MODALITIES)] for place, name in enumerate(names)}


def padded(values: Iterable[float], *, share: float = 0.06) -> list[float] | None:
    """Return a range of an axis that holds all finite values with some air; None where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    air = share * (high - low) or 0.02
    return [low - air, high + air]


def heading(*names: str) -> str:
    """Return the heading of a panel: names, shortened, with dots between."""
    return " \N{MIDDLE DOT} ".join(map(shortened, names))
