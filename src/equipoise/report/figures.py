"""The common look of all charts: plotly figures as plain dictionaries, coloured by names of CSS variables.

A colour is written as the name of a variable of the page's style sheet (`--c1`, or `--c1/0.2` with an
opacity); the page's script puts in the value that the reader's colour scheme gives it, and does so again when
the scheme changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from equipoise.report.tables import Table

FONT: Final = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
INK, MUTED, GRID = "--ink", "--muted", "--grid"
PALETTE: Final = tuple(f"--c{place}" for place in range(1, 7))
ROW: Final = 46
"""Height of a row of dots with a line of text above it, in pixels."""
LOW_ROW: Final = 36
"""The same where there are more than `MANY` rows."""
MANY: Final = 12
DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "2px,6px")


@dataclass(frozen=True)
class Panel:
    """One drawing of a chart: its heading, what a screen reader says of it, and the figure."""

    heading: str
    description: str
    figure: Mapping[str, Any]


@dataclass(frozen=True)
class Key:
    """An entry of a chart's legend.

    Attributes:
        label: what it stands for.
        color: of its sample.
        mark: shape of the sample: a dash of a line (`line`, `dash`, ...), `dots`, `disc`, `bar`,
            `band`, `tint` or `rule`.
        traces: traces of the only panel that a press on the entry shows and hides; none makes it a label.
        hidden: whether those traces are hidden at first.
    """

    label: str
    color: str
    mark: str = "line"
    traces: Sequence[int] = ()
    hidden: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart with its words.

    Attributes:
        name: its place in the page (an HTML id).
        title: what is drawn.
        caption: how to read it.
        panels: drawings, row by row.
        columns: panels that stand side by side where there is room.
        legend: its keys.
        numbers: the same as a table.
    """

    name: str
    title: str
    caption: str
    panels: Sequence[Panel]
    columns: int = 1
    legend: Sequence[Key] = field(default_factory=tuple)
    numbers: Table | None = None


def layout(height: int, *, x: Mapping[str, Any], y: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return a layout in the common look; `x` and `y` add to its axes."""
    axis = {
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "automargin": True,
        "ticks": "",
        "tickfont": {"color": MUTED, "size": 12},
    }
    base = {
        "height": height,
        "autosize": True,
        "margin": {"l": 4, "r": 12, "t": 8, "b": 8, "pad": 4},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": INK},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "--raised", "bordercolor": GRID, "font": {"color": INK}, "align": "left"},
        "xaxis": {**axis, "showgrid": False, **x},
        "yaxis": {**axis, **y},
    }
    return {**base, **more}


def axis_title(text: str) -> dict[str, Any]:
    """Return the title of an axis."""
    return {"text": text, "font": {"color": MUTED, "size": 12}, "standoff": 8}


def line(x: Sequence[Any], y: Sequence[float], color: str, **more: Any) -> dict[str, Any]:
    """Return a line; values that are no numbers become gaps."""
    values = [value if math.isfinite(value) else None for value in y]
    return {"type": "scatter", "mode": "lines", "x": list(x), "y": values, **_line(color, more)}


def _line(color: str, more: Mapping[str, Any]) -> dict[str, Any]:
    own = dict(more)
    style = {"color": color, "width": own.pop("width", 2), "dash": own.pop("dash", "solid")}
    return {"line": style, **own}


def band(x: Sequence[Any], low: Sequence[float], high: Sequence[float], color: str) -> dict[str, Any]:
    """Return a filled band between two curves, as one closed outline."""
    held = [(a, b, c) for a, b, c in zip(x, low, high, strict=True) if math.isfinite(b) and math.isfinite(c)]
    forth, back = [(a, c) for a, _, c in held], [(a, b) for a, b, _ in reversed(held)]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [a for a, _ in forth + back],
        "y": [value for _, value in forth + back],
        "fill": "toself",
        "fillcolor": color,
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def rule(axis: str, value: float, *, dash: str = "dash", below: bool = True) -> dict[str, Any]:
    """Return a line across the whole drawing at a value of the axis `x` or `y`."""
    other = "y" if axis == "x" else "x"
    return {
        "type": "line",
        f"{axis}0": value,
        f"{axis}1": value,
        f"{other}ref": "paper",
        f"{other}0": 0,
        f"{other}1": 1,
        "layer": "below" if below else "above",
        "line": {"color": MUTED, "width": 1, "dash": dash},
    }


def padded(values: Sequence[float], *, share: float = 0.06) -> list[float] | None:
    """Return a range of an axis that holds all finite values with some air; None where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    air = share * (high - low) or 0.02
    return [low - air, high + air]
