"""Charts as figures for a paper: one file a chart, in the formats that journals take."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from equipoise.report.figures import Chart
from equipoise.report.page import Page
from equipoise.report.static import draw, plain_style, saved
from equipoise.report.static_axes import Brush
from equipoise.types import EquipoiseWarning, RunFolderError, UsageError

FORMATS: Final = ("png", "svg", "pdf")
WIDTHS: Final = {1: 640, 2: 760, 3: 900}
"""Pixels of the page for panels side by side; `POINT` makes 640 of them a text width of 6.4 inches."""
POINT: Final = 0.72
DPI: Final = 300


def write_figures(
    page_or_charts: Page | Sequence[Chart], folder: Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write each chart as `FOLDER/NAME.FORMAT`, with title and legend, on white.

    Letters are paths in SVG and TrueType in PDF. The same chart gives the same bytes. A file is there whole
    or not at all; an existing one is replaced.

    Args:
        page_or_charts: a page, with the charts of its sections and folds, or charts.
        folder: where to write; it is made where it is missing.
        formats: of `png`, `svg` and `pdf`.

    Returns:
        The files, chart by chart.

    Raises:
        UsageError: a format is another one, or two charts have one name.
        RunFolderError: a file cannot be written.
    """
    check_formats(formats)
    charts = page_or_charts.all_charts if isinstance(page_or_charts, Page) else list(page_or_charts)
    names = [file_name(chart) for chart in charts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two charts would be written as {twice[0]}; expected one name a chart.")
    return [
        _write(folder / f"{name}.{kind}", rendered(chart, kind))
        for name, chart in zip(names, charts, strict=True)
        for kind in formats
    ]


def check_formats(formats: Sequence[str]) -> None:
    """Check the formats of figures before anything is drawn.

    Raises:
        UsageError: one is not among `FORMATS`.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"unknown format {unknown[0]!r} of figures; expected some of {', '.join(FORMATS)}.")


def file_name(chart: Chart) -> str:
    """Return a chart's name as one of a file, without its ending."""
    return re.sub(r"[^\w-]+", "-", chart.name).strip("-") or "chart"


def rendered(chart: Chart, kind: str) -> bytes:
    """Return a chart as the content of a file of the format `png`, `svg` or `pdf`."""
    beside = min(chart.columns, 3)
    columns = min(beside, len(chart.panels))
    headings = any(panel.heading for panel in chart.panels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with plain_style(chart.name, "path"):
            figure = draw(
                chart.panels,
                WIDTHS[beside] * columns / beside,
                Brush(POINT, paper="#ffffff"),
                columns=columns,
                headings=headings,
                words=chart,
            )
            data = saved(figure, kind, dpi=DPI, bbox_inches="tight", pad_inches=0.08)
    _tell(chart, [str(entry.message) for entry in caught])
    return data


def _tell(chart: Chart, messages: Sequence[str]) -> None:
    """Pass warnings on; of letters without a glyph, only once."""
    missing = [text for text in messages if text.startswith("Glyph ")]
    for text in dict.fromkeys(text for text in messages if text not in missing):
        warnings.warn(f"{chart.name}: {text}", EquipoiseWarning, stacklevel=3)
    if missing:
        warnings.warn(
            f"{chart.name}: the font of figures lacks letters ({missing[0].rstrip('.')}); they show "
            "as boxes. The HTML report shows them; rename the class or the modality for the figure.",
            EquipoiseWarning,
            stacklevel=3,
        )


def _write(path: Path, data: bytes) -> Path:
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise RunFolderError(
            f"cannot write the figure {path} ({error.strerror or error}); choose another folder."
        ) from None
    return path
