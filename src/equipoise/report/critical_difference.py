"""The critical-difference diagram: mean ranks on a line, bars over methods that do not differ.

It is drawn by scikit-posthocs on matplotlib, as a file for a paper and as part of a page.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from equipoise.experiments.compare.across import AcrossDatasets
from equipoise.experiments.compare.comparison import BASELINE
from equipoise.report.evidence import TREATMENT
from equipoise.report.static import page_svg, plain_style, saved
from equipoise.report.static_colors import rgba
from equipoise.types import RunFolderError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES: Final = (".svg", ".png", ".pdf")
INK, MUTED, ACCENT, BARS = (rgba(name)[0] for name in ("--ink", "--muted", "--c1", "--accent"))
"""Colours of the page's style sheet, which follow light and dark there."""
ROW_INCHES: Final = 0.21
WIDTH_INCHES: Final = 4.6
"""Of the axis; the names stand beside it and widen the figure as far as they need."""


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
    names = ", ".join(f"{name} {across.mean_ranks[name]:.1f}" for name in across.names)
    found = re.search(rb'width="([\d.]+)pt"', data)
    width = float(found[1]) if found else 72 * WIDTH_INCHES
    style = f"min-width: {1.15 * width:.0f}px; max-width: {1.5 * width:.0f}px"
    return page_svg(data, f"Mean ranks: {names}", "diagram", style)


def _saved(across: AcrossDatasets, kind: str, letters: str, **options: Any) -> bytes:
    """Return the file; `letters` says whether an SVG holds them as `path` or, by `none`, as text."""
    with plain_style("critical differences", letters):
        options |= {"bbox_inches": "tight", "pad_inches": 0.15, "dpi": 200}
        return saved(_figure(across), kind, **options)


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
