"""Traces, shapes and notes of static figures, at the places where plotly draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from equipoise.report.static_axes import Brush, known, plain_text, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SYMBOLS: Final = {
    **{"circle": "o", "square": "s", "diamond": "D", "cross": "P", "x": "X", "star": "*", "pentagon": "p"},
    **{"triangle-up": "^", "triangle-down": "v", "triangle-left": "<", "triangle-right": ">"},
    **{"hexagon": "h", "line-ns": "|", "line-ew": "_"},
}
DASHES: Final[Mapping[str, Any]] = {
    **{"solid": "solid", "dash": (0, (4, 3)), "dot": (0, (1, 1.6)), "dashdot": (0, (4, 2, 1, 2))},
    **{"longdash": (0, (7, 3)), "longdashdot": (0, (7, 2, 1, 2)), "2px,6px": (0, (1, 3))},
}
SCREEN: Final = frozenset(
    {"type", "visible", "customdata", "hovertemplate", "hoverinfo", "name", "showlegend"}
)
SCATTER: Final = frozenset({"mode", "x", "y", "line", "marker", "fill", "fillcolor", "error_x"})
BAR: Final = frozenset({"x", "y", "width", "marker", "orientation"})
HEAT: Final = frozenset({"x", "y", "z", "colorscale", "zmin", "zmax", "showscale", "xgap", "ygap"})
MANY_POINTS: Final = 400
"""Markers of a trace above which they become an image, as so many elements open slowly."""
BELOW, HEATS, BARS, LINES, ABOVE, NOTES = 1.0, 1.5, 2.0, 3.0, 6.0, 7.0


def draw_trace(axes: Axes, trace: Mapping[str, Any], place: int, brush: Brush) -> None:
    """Draw one trace.

    Args:
        axes: to draw on.
        trace: as plotly takes it.
        place: among the traces; later ones lie on top.
        brush: of the figure.

    Raises:
        ValueError: the trace, or something in it, is of a kind that this does not know.
    """
    kind = str(trace.get("type"))
    if kind not in ("scatter", "bar", "heatmap"):
        raise ValueError(f"a static figure cannot draw a trace of the type {kind!r}.")
    if trace.get("visible") is False:
        return
    if kind == "heatmap":
        _heat(axes, trace, brush)
    elif kind == "bar":
        _bars(axes, trace, BARS + 0.001 * place, brush)
    else:
        _scatter(axes, trace, LINES + 0.001 * place, brush)


def _numbers(values: Sequence[Any]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def _scatter(axes: Axes, trace: Mapping[str, Any], order: float, brush: Brush) -> None:
    known(trace, SCATTER, SCREEN, "a scatter trace")
    parts = set(str(trace["mode"]).split("+"))
    if not parts <= {"lines", "markers"} or trace.get("fill", "toself") != "toself":
        raise ValueError(f"a static figure cannot draw the mode {trace['mode']!r} of a scatter trace.")
    x, y = _numbers(trace["x"]), _numbers(trace["y"])
    if "fill" in trace:
        color, opacity = brush.color(trace["fillcolor"])
        axes.fill(x, y, color=color, alpha=opacity, linewidth=0, zorder=order)
    if "lines" in parts and trace["line"].get("width") != 0:
        style = trace["line"]
        known(style, frozenset({"color", "width", "dash"}), frozenset(), "a line")
        color, opacity = brush.color(style["color"])
        dash = DASHES.get(style.get("dash", "solid"))
        if dash is None:
            raise ValueError(f"a static figure does not know the dash {style['dash']!r}.")
        width = brush.size(style.get("width", 2))
        axes.plot(x, y, color=color, alpha=opacity, linewidth=width, linestyle=dash, zorder=order)
    if "error_x" in trace:
        _error(axes, x, y, trace["error_x"], order, brush)
    if "markers" in parts:
        # A line without a marker of its own gets plotly's, in its colour.
        marker = trace.get("marker") or {"color": trace["line"]["color"], "size": 6}
        _markers(axes, x, y, marker, order, brush)


def _error(
    axes: Axes, x: list[float], y: list[float], error: Mapping[str, Any], order: float, brush: Brush
) -> None:
    known(error, frozenset({"array", "color", "thickness"}), frozenset({"type", "width"}), "error bars")
    if error["type"] != "data" or error["width"] != 0:
        raise ValueError("a static figure draws error bars of type 'data' without ends.")
    color, opacity = brush.color(error["color"])
    ends = [(a - e, a + e) for a, e in zip(x, _numbers(error["array"]), strict=True)]
    low, high = [end[0] for end in ends], [end[1] for end in ends]
    width = brush.size(error["thickness"])
    axes.hlines(y, low, high, color=color, alpha=opacity, linewidth=width, zorder=order)


def _markers(
    axes: Axes, x: list[float], y: list[float], marker: Mapping[str, Any], order: float, brush: Brush
) -> None:
    """Draw markers, one line object for each look that they have: they come many to a few looks."""
    known(marker, frozenset({"color", "size", "symbol", "line"}), frozenset(), "a marker")
    outline = marker.get("line") or {}
    known(outline, frozenset({"color", "width"}), frozenset(), "an outline")

    def each(value: Any) -> list[Any]:
        return list(value) if isinstance(value, list | tuple) else [value] * len(x)

    looks: dict[tuple[Any, ...], list[int]] = {}
    style = zip(
        each(marker.get("color")),
        each(marker.get("size", 6)),
        each(marker.get("symbol", "circle")),
        each(outline.get("color")),
        each(outline.get("width", 0)),
        strict=True,
    )
    for place, look in enumerate(style):
        looks.setdefault(look, []).append(place)
    for look, places in looks.items():
        xs, ys = [x[place] for place in places], [y[place] for place in places]
        _one_look(axes, xs, ys, look, order, brush, image=len(x) > MANY_POINTS)


def _one_look(
    axes: Axes,
    x: list[float],
    y: list[float],
    look: tuple[Any, ...],
    order: float,
    brush: Brush,
    *,
    image: bool,
) -> None:
    fill, size, symbol, edge, width = look
    if symbol not in SYMBOLS:
        raise ValueError(f"a static figure does not know the symbol {symbol!r}.")
    # Plotly's strokes without area have the colour of their outline.
    face, opacity = brush.color(fill or edge)
    rim, rim_opacity = brush.color(edge) if edge else (face, opacity)
    axes.plot(
        x,
        y,
        linestyle="none",
        marker=SYMBOLS[symbol],
        markersize=brush.size(size),
        markerfacecolor=(face, opacity),
        markeredgecolor=(rim, rim_opacity),
        markeredgewidth=brush.size(width),
        zorder=order,
        rasterized=image,
    )


def _bars(axes: Axes, trace: Mapping[str, Any], order: float, brush: Brush) -> None:
    known(trace, BAR, SCREEN, "a bar trace")
    color = trace["marker"]["color"]
    shades = [brush.color(c) for c in (color if isinstance(color, list) else [color] * len(trace["x"]))]
    x, y, width = _numbers(trace["x"]), _numbers(trace["y"]), trace["width"]
    if trace.get("orientation", "v") == "h":
        axes.barh(y, x, height=width, color=shades, linewidth=0, zorder=order)
    else:
        axes.bar(x, y, width=width, color=shades, linewidth=0, zorder=order)


def _heat(axes: Axes, trace: Mapping[str, Any], brush: Brush) -> None:
    """Draw cells of unit size around whole numbers; the scale runs from one opacity to another."""
    from matplotlib.patches import Rectangle

    known(trace, HEAT, SCREEN, "a heat map")
    (_, first), (_, last) = trace["colorscale"]
    (color, low), (same, high) = brush.color(first), brush.color(last)
    if color != same:
        raise ValueError("a static figure draws heat maps in opacities of one colour.")
    least, most = float(trace["zmin"]), float(trace["zmax"])
    for y, row in zip(trace["y"], trace["z"], strict=True):
        for x, value in zip(trace["x"], row, strict=True):
            if value is None or not math.isfinite(value):
                continue
            share = min(1.0, max(0.0, (value - least) / (most - least)))
            opacity = low + share * (high - low)
            if opacity > 0:
                cell = Rectangle(
                    (x - 0.5, y - 0.5), 1, 1, color=color, alpha=opacity, linewidth=0, zorder=HEATS
                )
                axes.add_patch(cell)


def draw_shape(axes: Axes, shape: Mapping[str, Any], brush: Brush) -> None:
    """Draw a straight line across the axes or between two points.

    Raises:
        ValueError: it is of another kind.
    """
    known(
        shape,
        frozenset({"type", "x0", "x1", "y0", "y1", "xref", "yref", "layer", "line"}),
        frozenset(),
        "a shape",
    )
    if shape["type"] != "line":
        raise ValueError(f"a static figure cannot draw the shape {shape['type']!r}.")
    color, opacity = brush.color(shape["line"]["color"])
    axes.plot(
        [shape["x0"], shape["x1"]],
        [shape["y0"], shape["y1"]],
        transform=_transform(axes, shape),
        color=color,
        alpha=opacity,
        linewidth=brush.size(shape["line"]["width"]),
        linestyle=DASHES[shape["line"].get("dash", "solid")],
        zorder=BELOW if shape.get("layer") == "below" else ABOVE,
        scalex=False,
        scaley=False,
    )


def _transform(axes: Axes, placed: Mapping[str, Any]) -> Any:
    """Return what places data, or shares of the axes where `xref` or `yref` is `paper`."""
    from matplotlib.transforms import blended_transform_factory

    own = [axes.transAxes if placed.get(key) == "paper" else axes.transData for key in ("xref", "yref")]
    return blended_transform_factory(*own)


NOTE: Final = frozenset(
    {
        "x",
        "y",
        "xref",
        "yref",
        "xanchor",
        "yanchor",
        "xshift",
        "yshift",
        "text",
        "font",
        "bgcolor",
        "showarrow",
    }
)
ACROSS: Final = {"left": "left", "center": "center", "right": "right"}
UPWARD: Final = {"top": "top", "middle": "center", "bottom": "bottom"}


def draw_note(axes: Axes, note: Mapping[str, Any], brush: Brush) -> None:
    """Write an annotation; see `draw_shape`."""
    known(note, NOTE, frozenset(), "an annotation")
    if note.get("showarrow") is not False:
        raise ValueError("a static figure draws annotations without arrows.")
    color, _ = brush.color(note["font"]["color"])
    shift = brush.size(note.get("xshift", 0)), brush.size(note.get("yshift", 0))
    behind = {}
    if "bgcolor" in note:
        face, opacity = brush.color(note["bgcolor"])
        behind = {"bbox": {"facecolor": face, "alpha": opacity, "linewidth": 0, "pad": brush.size(1)}}
    axes.annotate(
        printable(plain_text(note["text"])),
        (note["x"], note["y"]),
        xycoords=_transform(axes, note),
        xytext=shift,
        textcoords="offset points",
        ha=ACROSS[note.get("xanchor", "center")],
        va=UPWARD[note.get("yanchor", "middle")],
        color=color,
        fontsize=brush.size(note["font"].get("size", 13)),
        annotation_clip=False,
        parse_math=False,
        zorder=NOTES,
        **behind,
    )
