"""Words of static figures: title, headings and legend, wrapped to the room that there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from equipoise.report.figures import INK, Chart, Key, Panel
from equipoise.report.static_axes import Brush, printable
from equipoise.report.static_marks import DASHES, SYMBOLS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE, HEADING, LETTERS = 16, 13, 12.5
LEADING: Final = 1.35
PATCHES: Final = {"band": 1.0, "tint": 0.22}
MARKERS: Final = {
    "dots": "o",
    "disc": "o",
    **{name: mark for name, mark in SYMBOLS.items() if name.isalpha()},
}


def draw_title(figure: Figure, text: str, width: float, brush: Brush, *, total: float = 0.0) -> float:
    """Write the title at the top and return the height that it takes, in pixels.

    Args:
        figure: to write on.
        text: the title.
        width: of the figure, in pixels.
        brush: its units and colours.
        total: height of the figure in pixels; 0 measures only.
    """
    lines = wrapped(figure, text, width, brush.size(TITLE), brush, bold=True)
    if total:
        _write(figure, lines, (0.0, 4 / total), brush.size(TITLE), brush)
    return len(lines) * TITLE * LEADING + 12


def heading_height(figure: Figure, panels: Sequence[Panel], width: float, brush: Brush) -> float:
    """Return the height of the headings over a row of panels, in pixels."""
    counts = [
        len(wrapped(figure, p.heading, width, brush.size(HEADING), brush, bold=True)) if p.heading else 0
        for p in panels
    ]
    return max(counts) * HEADING * LEADING + 4


def draw_headings(
    figure: Figure,
    panels: Sequence[Panel],
    cells: Sequence[tuple[float, float, float, float]],
    total: float,
    brush: Brush,
) -> None:
    """Write the heading of each panel over its cell (left, top, width and height in pixels)."""
    wide = figure.get_size_inches()[0] * 72
    for panel, (left, top, width, _) in zip(panels, cells, strict=True):
        if panel.heading:
            lines = wrapped(figure, panel.heading, width, brush.size(HEADING), brush, bold=True)
            start = top - 4 - len(lines) * HEADING * LEADING
            _write(figure, lines, (brush.size(left) / wide, start / total), brush.size(HEADING), brush)


def _write(
    figure: Figure, lines: Sequence[str], place: tuple[float, float], size: float, brush: Brush
) -> None:
    color, _ = brush.color(INK)
    figure.text(
        place[0],
        1 - place[1],
        "\n".join(lines),
        size=size,
        weight="bold",
        color=color,
        va="top",
        linespacing=LEADING * 0.85,
        parse_math=False,
    )


def wrapped(
    figure: Figure, text: str, width: float, size: float, brush: Brush, *, bold: bool = False
) -> list[str]:
    """Break a text into lines no wider than `width` pixels; a word that is too long breaks anywhere."""
    room = brush.size(width)
    lines = [""]
    for word in printable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(figure, longer, size, bold) <= room:
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and text_width(figure, lines[-1] + letter, size, bold) > room:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]


def text_width(figure: Figure, text: str, size: float, bold: bool = False) -> float:
    """Return the width of a line of text in points."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer = RendererAgg(1, 1, figure.dpi)  # type: ignore[no-untyped-call]
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    width, _, _ = renderer.get_text_width_height_descent(text, font, False)  # type: ignore[no-untyped-call]
    return float(width)


def draw_legend(
    figure: Figure, chart: Chart, width: float, brush: Brush, *, top: float = 0.0, total: float = 0.0
) -> float:
    """Draw the legend below the title, in lines as wide as the figure; see `draw_title`."""
    keys = [key for key in chart.legend if not key.hidden]
    size, left, lines = brush.size(LETTERS), 0.0, 1
    for key in keys:
        for label in wrapped(figure, key.label, width - 44, size, brush)[:1] or [""]:
            room = text_width(figure, label, size) / brush.point + 44
            if left and left + room > width:
                left, lines = 0.0, lines + 1
            if total:
                _draw_key(figure, key, label, (left, top + (lines - 0.5) * 20), (width, total), brush)
            left += room
    return lines * 20.0 + 10 if keys else 0.0


def _draw_key(
    figure: Figure,
    key: Key,
    label: str,
    place: tuple[float, float],
    whole: tuple[float, float],
    brush: Brush,
) -> None:
    left, down = place[0] / whole[0], 1 - place[1] / whole[1]
    figure.add_artist(_sample(key, (place[0], place[1]), whole, brush))
    color, _ = brush.color(INK)
    figure.text(
        left + 28 / whole[0],
        down,
        label,
        size=brush.size(LETTERS),
        color=color,
        va="center_baseline",
        parse_math=False,
    )


def _sample(key: Key, place: tuple[float, float], whole: tuple[float, float], brush: Brush) -> Any:
    """Return what stands for a key's marks.

    Raises:
        ValueError: the key's mark is unknown.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    color, opacity = brush.color(key.color)
    width, height = whole
    x, y = place[0] / width, 1 - place[1] / height
    common: dict[str, Any] = {"color": color}
    if key.mark in PATCHES:
        corner = (x + 3 / width, y - 6 / height)
        return Rectangle(
            corner, 16 / width, 12 / height, color=color, alpha=opacity * PATCHES[key.mark], linewidth=0
        )
    if key.mark in MARKERS:
        hollow = key.mark == "dots"
        return Line2D(
            [x + 11 / width],
            [y],
            marker=MARKERS[key.mark],
            markersize=brush.size(9),
            markerfacecolor="none" if hollow else color,
            markeredgewidth=brush.size(1.5 if hollow else 0),
            **common,
        )
    if key.mark == "rule":
        ends = [y - 7 / height, y + 7 / height]
        return Line2D([x + 11 / width] * 2, ends, linestyle="--", linewidth=brush.size(1.2), **common)
    if key.mark == "bar":
        ends = [x, x + 11 / width, x + 22 / width]
        return Line2D(
            ends,
            [y] * 3,
            marker="|",
            markevery=[1],
            markersize=brush.size(13),
            markeredgewidth=brush.size(3),
            linewidth=brush.size(2),
            **common,
        )
    dash = DASHES["solid" if key.mark == "line" else key.mark] if key.mark in {"line", *DASHES} else None
    if dash is None:
        raise ValueError(f"a static figure does not know the mark {key.mark!r} of a key.")
    return Line2D([x, x + 22 / width], [y, y], linestyle=dash, linewidth=brush.size(2.2), **common)
