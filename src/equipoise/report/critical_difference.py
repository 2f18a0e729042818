"""The critical-difference diagram: mean ranks on a line, bars over methods that do not differ.

It is drawn by scikit-posthocs on matplotlib, as a file for a paper and as part of a page.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from equipoise.experiments.across import AcrossDatasets
from equipoise.experiments.comparison import BASELINE
from equipoise.report.evidence import TREATMENT
from equipoise.types import RunFolderError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES: Final = (".svg", ".png", ".pdf")
INK, MUTED, ACCENT, BARS = "#1d2329", "#5b6670", "#c24e00", "#0072b2"
THEMED: Final = {INK: "var(--ink)", MUTED: "var(--muted)", ACCENT: "var(--c1)", BARS: "var(--accent)"}
"""Colours of the file, and the variables of the page's style sheet that follow light and dark."""
PLAIN: Final = {"svg.hashsalt": "equipoise", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"]}
ROW_INCHES: Final = 0.21
WIDTH_INCHES: Final = 4.6
"""Of the axis; the names stand beside it and widen the figure as far as they need."""
SVG: Final = "{http://www.w3.org/2000/svg}"
LINK: Final = "{http://www.w3.org/1999/xlink}href"


def write_critical_difference(across: AcrossDatasets, path: Path) -> Path:
    """Write the diagram as a file of its own.

    Args:
        across: ranks over datasets.
        path: the file; its suffix chooses SVG, PNG or PDF, an existing one is replaced.

    Raises:
        UsageError: the suffix is another one.
        RunFolderError: the file cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise UsageError(f"{path} ends in '{path.suffix}'; expected one of {', '.join(SUFFIXES)}.")
    data = _saved(across, kind.removeprefix("."), "path", facecolor="white")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise RunFolderError(
            f"cannot write the figure {path} ({error.strerror or error}); choose another file."
        ) from None
    return path


def inline_diagram(across: AcrossDatasets) -> Markup:
    """Return the diagram as an SVG element of a page; its colours are those of the page's style sheet."""
    data = _saved(across, "svg", "none", transparent=True)
    root = ET.fromstring(data)
    for element in list(root):
        # Its metadata name addresses, and its style sheet would hold for the whole page.
        if element.tag == f"{SVG}metadata":
            root.remove(element)
    for parent in list(root.iter()):
        for element in list(parent):
            if element.tag == f"{SVG}style":
                parent.remove(element)
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        if LINK in element.attrib:
            element.set("href", element.attrib.pop(LINK))
        if style := element.get("style"):
            element.set("style", _themed(style))
    width = float(root.attrib.pop("width").removesuffix("pt"))
    del root.attrib["height"]
    names = ", ".join(f"{name} {across.mean_ranks[name]:.1f}" for name in across.names)
    root.attrib |= {
        "class": "diagram",
        "role": "img",
        "aria-label": f"Mean ranks: {names}",
        "style": f"min-width: {1.15 * width:.0f}px; max-width: {1.5 * width:.0f}px",
    }
    return Markup(ET.tostring(root, encoding="unicode"))


def _themed(style: str) -> str:
    for color, variable in THEMED.items():
        style = style.replace(color, variable)
    return re.sub(r"'DejaVu Sans'(, sans-serif)?", "system-ui, sans-serif", style)


def _saved(across: AcrossDatasets, kind: str, letters: str, **options: Any) -> bytes:
    """Return the file; `letters` says whether an SVG holds them as `path` or, by `none`, as text."""
    import matplotlib as mpl

    style: Any = {**PLAIN, "svg.fonttype": letters}
    # The same ranks give the same file, byte by byte.
    options["metadata"] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    with mpl.rc_context(style), BytesIO() as buffer:
        _figure(across).savefig(buffer, format=kind, dpi=200, bbox_inches="tight", pad_inches=0.15, **options)
        return buffer.getvalue()


def _figure(across: AcrossDatasets) -> Figure:
    from matplotlib.figure import Figure
    from scikit_posthocs import critical_difference_diagram

    labels = {
        name: f"{name} (experimental)" if name in across.experimental else name for name in across.names
    }
    ranks = {labels[name]: across.mean_ranks[name] for name in across.names}
    p_values = across.p_values.rename(index=labels, columns=labels)
    special = {labels.get(BASELINE): INK, labels.get(TREATMENT): ACCENT}
    count = len(ranks)
    figure = Figure(figsize=(WIDTH_INCHES, ROW_INCHES * (count / 2 + 6)))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    critical_difference_diagram(
        ranks,
        p_values,
        ax=axes,
        label_fmt_left="{label}\N{EN SPACE}{rank:.1f}\N{NO-BREAK SPACE}",
        label_fmt_right="\N{NO-BREAK SPACE}{rank:.1f}\N{EN SPACE}{label}",
        label_props={"fontsize": 9, "parse_math": False},
        marker_props={"s": 14},
        elbow_props={"linewidth": 0.9},
        crossbar_props={"color": BARS, "linewidth": 2.4},
        color_palette={name: special.get(name, MUTED) for name in ranks},
        text_h_margin=0.02 * count,
    )
    _polish(figure, count)
    # A bar longer than the axis says nothing that the words beside the diagram do not.
    if across.critical_difference <= count - 1:
        _measure(figure, across.critical_difference)
    return figure


def _polish(figure: Figure, count: int) -> None:
    """Set axis and ticks in ink, rank 1 on the left, and let nothing be cut."""
    (axes,) = figure.axes
    axes.set_xlim(1 - 0.02 * count, count + 0.02 * count)
    axes.spines["top"].set_color(INK)
    axes.spines["top"].set_bounds(1, count)
    axes.xaxis.set_major_locator(_ticks(count))
    axes.tick_params(colors=INK, labelsize=9)
    for artist in (*axes.lines, *axes.texts):
        artist.set_clip_on(False)


def _measure(figure: Figure, distance: float) -> None:
    """Draw the critical difference over the axis, clear of the numbers of its ticks."""
    (axes,) = figure.axes
    height = 2.2
    axes.plot([1, 1 + distance], [height, height], color=INK, linewidth=1.4, marker="|", clip_on=False)
    axes.text(
        1 + distance / 2,
        height + 0.3,
        f"critical difference {distance:.1f}",
        color=INK,
        fontsize=9,
        ha="center",
        va="bottom",
    )


def _ticks(count: int) -> Any:
    from matplotlib.ticker import FixedLocator

    step = 1 if count <= 12 else 5
    return FixedLocator([1, *range(step if step > 1 else 2, count + 1, step)])
