"""From the charts of a page to matplotlib: pictures without JavaScript, and figures for papers.

A chart's figures are plotly's dictionaries (see `figures`). This translates the part of plotly that they use,
and refuses what it does not know, so that a static picture never lacks what the live one shows.
"""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from equipoise.report.figures import Chart, Panel
from equipoise.report.static_axes import Brush, known, set_frame, set_ranges
from equipoise.report.static_colors import themed
from equipoise.report.static_legend import draw_headings, draw_legend, draw_title, heading_height
from equipoise.report.static_marks import draw_note, draw_shape, draw_trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE: Final = frozenset({"data", "layout"})
DRAWN: Final = frozenset({"height", "margin", "xaxis", "yaxis", "annotations", "shapes"})
LIVE: Final = frozenset(
    {"autosize", "paper_bgcolor", "plot_bgcolor", "font", "showlegend", "hovermode", "hoverlabel", "bargap"}
)
WIDE, NARROW, COLUMN = 860, 358, {2: 500, 3: 340}
"""Widths of the page's pictures: of a lone panel on a screen and on a phone, and of panels side by side."""
GAP: Final = 24
SVG: Final = "{http://www.w3.org/2000/svg}"
LINK: Final = "{http://www.w3.org/1999/xlink}href"
IMAGE_DPI: Final = 144
METADATA: Final[Mapping[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
"""No date: the same chart gives the same file, byte by byte."""


@contextmanager
def plain_style(salt: str, letters: str) -> Iterator[None]:
    """Draw in matplotlib's own style, whatever the user's settings say.

    Args:
        salt: what the ids in an SVG depend on; ids of pictures in one page must differ.
        letters: whether an SVG holds letters as `path` or, by `none`, as text.
    """
    import matplotlib as mpl

    style: Any = {
        "svg.hashsalt": f"equipoise {salt}",
        "svg.fonttype": letters,
        "pdf.fonttype": 42,  # TrueType: journals refuse the default, Type 3
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "text.parse_math": False,
    }
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(style)
        yield


def draw(
    panels: Sequence[Panel],
    width: float,
    brush: Brush,
    *,
    columns: int = 1,
    headings: bool = False,
    words: Chart | None = None,
) -> Figure:
    """Draw panels in rows of equal columns.

    Args:
        panels: to draw.
        width: of all, in pixels of the page.
        brush: its units and colours.
        columns: panels side by side.
        headings: write their headings over them.
        words: the chart whose title and legend stand above all.

    Raises:
        ValueError: a figure holds what this cannot draw.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(brush.size(width) / 72, 1), dpi=72)
    figure.patch.set_alpha(0.0)
    cell = (width - (columns - 1) * GAP) / columns
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    above = [heading_height(figure, row, cell, brush) if headings else 0.0 for row in rows]
    heights = [max(float(panel.figure["layout"]["height"]) for panel in row) for row in rows]
    legend = draw_legend(figure, words, width, brush) if words else 0.0
    title = draw_title(figure, words.title, width, brush) if words else 0.0
    total = title + legend + sum(above) + sum(heights) + GAP * (len(rows) - 1)
    figure.set_size_inches(brush.size(width) / 72, brush.size(total) / 72)
    axes, cells, top = [], [], title + legend
    for row, room, height in zip(rows, above, heights, strict=True):
        for place, panel in enumerate(row):
            axes.append(_panel(figure, panel, brush))
            cells.append((place * (cell + GAP), top + room, cell, float(panel.figure["layout"]["height"])))
        top += room + height + GAP
    _place(figure, axes, cells, panels, brush, columns)
    if words:
        figure.patch.set_alpha(1.0)
        figure.patch.set_facecolor("white")
        draw_title(figure, words.title, width, brush, total=total)
        draw_legend(figure, words, width, brush, top=title, total=total)
    if headings:
        draw_headings(figure, panels, cells, total, brush)
    return figure


def _panel(figure: Figure, panel: Panel, brush: Brush) -> Axes:
    known(panel.figure, FIGURE, frozenset(), "a figure")
    layout, traces = panel.figure["layout"], panel.figure["data"]
    known(layout, DRAWN, LIVE, "a layout")
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8), label=f"panel {len(figure.axes)}")
    set_frame(axes, layout, brush)
    for place, trace in enumerate(traces):
        draw_trace(axes, trace, place, brush)
    points = any("markers" in str(trace.get("mode", "")) for trace in traces)
    set_ranges(axes, layout, points=points)
    for shape in layout.get("shapes", ()):
        draw_shape(axes, shape, brush)
    for note in layout.get("annotations", ()):
        draw_note(axes, note, brush)
    return axes


def _place(
    figure: Figure,
    axes: Sequence[Axes],
    cells: Sequence[tuple[float, float, float, float]],
    panels: Sequence[Panel],
    brush: Brush,
    columns: int,
) -> None:
    """Give each axes its cell less the room that its ticks and titles take, alike within a column."""
    width, height = (72 * float(side) for side in figure.get_size_inches())
    insets = [
        _inset(own, panel.figure["layout"]["margin"], brush) for own, panel in zip(axes, panels, strict=True)
    ]
    for place, (own, cell) in enumerate(zip(axes, cells, strict=True)):
        alike = insets[place % columns :: columns]
        left, right = max(inset[0] for inset in alike), max(inset[1] for inset in alike)
        x, y, wide, high = (brush.size(value) for value in cell)
        bottom, top = insets[place][2:]
        box = (x + left, height - y - high + bottom, wide - left - right, high - top - bottom)
        own.set_position((box[0] / width, box[1] / height, box[2] / width, box[3] / height))


def _inset(axes: Axes, margin: Mapping[str, float], brush: Brush) -> tuple[float, float, float, float]:
    """Return what ticks and titles take on the left, right, bottom and top of an axes, in points."""
    from matplotlib.backends.backend_agg import RendererAgg

    renderer = RendererAgg(1, 1, 72)  # type: ignore[no-untyped-call]
    inner, reach = axes.get_window_extent(renderer), [0.0, 0.0, 0.0, 0.0]
    for axis in (axes.xaxis, axes.yaxis):
        box = axis.get_tightbbox(renderer) if axis.get_visible() else None
        if box is not None:
            sides = (inner.x0 - box.x0, box.x1 - inner.x1, inner.y0 - box.y0, box.y1 - inner.y1)
            reach = [max(one, two) for one, two in zip(reach, sides, strict=True)]
    least = (margin["l"], margin["r"], margin["b"], margin["t"])
    return (
        reach[0] + brush.size(least[0]),
        max(reach[1] + brush.size(2), brush.size(least[1])),
        reach[2] + brush.size(least[2]),
        max(reach[3] + brush.size(2), brush.size(least[3])),
    )


def saved(figure: Figure, kind: str, **options: Any) -> bytes:
    """Return a figure as a file; call it inside `plain_style`."""
    with BytesIO() as buffer:
        figure.savefig(buffer, format=kind, metadata=METADATA[kind], **options)
        return buffer.getvalue()


def page_svg(data: bytes, label: str, kind: str, style: str = "") -> Markup:
    """Return an SVG file as an element of a page, in the colours and letters of its style sheet.

    Args:
        data: the file.
        label: what a screen reader says of it.
        kind: its CSS class.
        style: its own style.
    """
    root = ET.fromstring(data)
    _unclipped(root)
    for parent in list(root.iter()):
        for element in list(parent):
            # Metadata names addresses, and a style sheet would hold for the whole page.
            if element.tag in (f"{SVG}metadata", f"{SVG}style", f"{SVG}clipPath"):
                parent.remove(element)
    used = {element.get(LINK, "") for element in root.iter()}
    for element in root.iter():
        _plain_element(element, used)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": kind, "role": "img", "aria-label": label} | ({"style": style} if style else {})
    return Markup(ET.tostring(root, encoding="unicode"))


def _plain_element(element: ET.Element, used: set[str]) -> None:
    """Bring an element into the page's own terms, and drop what only matplotlib needs."""
    element.tag = element.tag.removeprefix(SVG)
    if LINK in element.attrib:
        element.set("href", element.attrib.pop(LINK))
    if style := element.get("style"):
        element.set("style", themed(style))
    if f"#{element.get('id')}" not in used:
        element.attrib.pop("id", None)
    for name in ("d", "x", "y"):
        if value := element.get(name):
            # A hundredth of a pixel is more than a screen shows.
            element.set(name, re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split())))
    if (element.text or "").isspace():
        element.text = None
    if (element.tail or "").isspace():
        element.tail = None


def _unclipped(root: ET.Element) -> None:
    """Put what is clipped into an SVG element as large as its clip: a page refers to nothing by address."""
    sides = ("x", "y", "width", "height")
    boxes = {}
    for clip in root.iter(f"{SVG}clipPath"):
        (rect,) = clip
        boxes[f"url(#{clip.get('id')})"] = [f"{float(rect.get(side, 0)):.2f}" for side in sides]
    for parent in list(root.iter()):
        for place, element in enumerate(list(parent)):
            if box := boxes.get(element.attrib.pop("clip-path", "")):
                frame = dict(zip(sides, box, strict=True))
                window = ET.Element(f"{SVG}svg", {**frame, "viewBox": " ".join(box)})
                window.append(element)
                parent[place] = window


def static_panels(chart: Chart) -> list[Markup]:
    """Return each panel of a chart as elements of a page that need no JavaScript.

    A lone panel comes twice, drawn for a screen and for a phone; the style sheet shows one of them, so that
    letters keep their size.
    """
    columns = min(chart.columns, 3)
    widths = {"static": COLUMN[columns]} if columns > 1 else {"static wide": WIDE, "static narrow": NARROW}
    brush, found = Brush(), []
    for place, panel in enumerate(chart.panels):
        pictures = []
        for kind, width in widths.items():
            with plain_style(f"{chart.name} {place} {kind}", "none"):
                warnings.filterwarnings("ignore", message="Glyph")  # the browser's fonts have them
                data = saved(draw([panel], width, brush), "svg", dpi=IMAGE_DPI, transparent=True)
            pictures.append(page_svg(data, panel.description, kind))
        found.append(Markup("").join(pictures))
    return found
