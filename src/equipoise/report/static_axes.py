"""Axes of static figures: ranges, ticks, formats and titles as plotly draws them."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from equipoise.report.static_colors import Rgba, rgba
from equipoise.report.wording import MINUS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

DRAWN: Final = frozenset(
    {"title", "range", "rangemode", "nticks", "tickvals", "ticktext", "tickangle", "tickformat", "tickfont"}
    | {"visible", "showgrid", "gridcolor", "linecolor", "showline", "showticklabels"}
)
LIVE: Final = frozenset({"zeroline", "automargin", "ticks", "fixedrange", "anchor"})
"""What has no meaning on paper, or is the same for all charts."""
SHARED: Final = {"~%": "%", ".0%": "%", ".1%": "%", "": ""}


@dataclass(frozen=True)
class Brush:
    """What turns pixels and colours of the page into those of a static figure.

    Attributes:
        point: points (1/72 inch) of one pixel of the page.
        paper: colour that stands for the page's background; None keeps its variable.
    """

    point: float = 1.0
    paper: str | None = None

    def color(self, name: str) -> Rgba:
        """Return a chart's colour."""
        return rgba(name, paper=self.paper)

    def size(self, pixels: float) -> float:
        """Return pixels in points."""
        return pixels * self.point


def known(values: Mapping[str, Any], drawn: frozenset[str], live: frozenset[str], what: str) -> None:
    """Refuse what the translation does not know rather than leaving it out of the picture.

    Raises:
        ValueError: there is a key that is neither drawn nor meant for the screen alone.
    """
    if unknown := sorted(set(values) - drawn - live):
        raise ValueError(f"a static figure cannot draw {', '.join(unknown)} of {what}.")


def plain_text(text: str) -> str:
    """Return a label of a plotly figure as plain lines: `<br>` breaks them, entities are letters.

    Raises:
        ValueError: it holds another tag.
    """
    lines = re.split(r"<br ?/?>", text)
    if any(re.search(r"</?[a-zA-Z]", line) for line in lines):
        raise ValueError(f"a static figure cannot draw the markup of {text!r}.")
    return "\n".join(html.unescape(line) for line in lines)


def printable(text: str) -> str:
    """Return a text without letters that no file of pictures may hold."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def set_frame(axes: Axes, layout: Mapping[str, Any], brush: Brush) -> None:
    """Set spines, grid, ticks and titles of both axes; ranges come after the traces."""
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    for side in axes.spines.values():
        side.set_visible(False)
    for key, axis in (("xaxis", axes.xaxis), ("yaxis", axes.yaxis)):
        own = layout[key]
        known(own, DRAWN, LIVE, key)
        axis.set_tick_params(length=0, pad=brush.size(4))
        if own.get("visible") is False:
            axis.set_visible(False)
            continue
        _set_axis(axis, own, brush)


def _set_axis(axis: Axis, own: Mapping[str, Any], brush: Brush) -> None:
    font = own["tickfont"]
    color, _ = brush.color(font["color"])
    size, angle = brush.size(font["size"]), own.get("tickangle", 0)
    axis.set_tick_params(labelcolor=color, labelsize=size, labelrotation=-angle)
    if own.get("showgrid", True):
        grid, opacity = brush.color(own["gridcolor"])
        axis.grid(True, color=grid, alpha=opacity, linewidth=brush.size(1))
    if title := own.get("title"):
        shade, _ = brush.color(title["font"]["color"])
        axis.set_label_text(
            plain_text(title["text"]),
            color=shade,
            fontsize=brush.size(title["font"]["size"]),
            parse_math=False,
        )
        axis.labelpad = brush.size(title.get("standoff", 8))
    _set_ticks(axis, own)
    if own.get("showticklabels") is False:
        axis.set_tick_params(labelleft=False, labelbottom=False)


def _set_ticks(axis: Axis, own: Mapping[str, Any]) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator

    form = own.get("tickformat", "")
    if form not in SHARED:
        raise ValueError(f"a static figure cannot write ticks as {form!r}.")
    if "tickvals" in own:
        axis.set_major_locator(FixedLocator(own["tickvals"]))
        texts = own.get("ticktext", own["tickvals"])
        axis.set_major_formatter(FixedFormatter([printable(plain_text(str(text))) for text in texts]))
        return
    axis.set_major_locator(MaxNLocator(nbins=int(own.get("nticks", 6)), steps=[1, 2, 2.5, 5, 10]))
    scale, unit = (100, "%") if SHARED[form] == "%" else (1, "")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{scale * value:.6g}{unit}".replace("-", MINUS)))


def set_ranges(axes: Axes, layout: Mapping[str, Any], *, points: bool) -> None:
    """Set the ranges: those of the layout, else what the traces reach, as plotly would.

    Args:
        axes: with all traces.
        layout: of the figure.
        points: whether there are markers, which get some air.
    """
    for key, get, put in (
        ("xaxis", axes.get_xlim, axes.set_xlim),
        ("yaxis", axes.get_ylim, axes.set_ylim),
    ):
        own = layout[key]
        reach: Sequence[float] | None = own.get("range")
        if reach is not None:
            put(float(reach[0]), float(reach[1]))
            continue
        air = 0.05 if points or key == "yaxis" else 0.0
        axes.set_xmargin(air) if key == "xaxis" else axes.set_ymargin(air)
        axes.autoscale_view(scalex=key == "xaxis", scaley=key == "yaxis")
        low, high = get()
        if own.get("rangemode", "normal") == "tozero":
            low, high = min(low, 0.0), max(high, 0.0)
        elif own.get("rangemode", "normal") != "normal":
            raise ValueError(f"a static figure does not know the rangemode {own['rangemode']!r}.")
        put(low, high)
