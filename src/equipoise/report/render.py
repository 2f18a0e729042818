"""From one Altair chart to its specification for a page, its SVG without JavaScript, and its files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from equipoise.files.limits import check_machine
from equipoise.files.printable import printable
from equipoise.files.whole import replaced, room_for
from equipoise.report.charts.chart import Chart
from equipoise.types import RunFolderError, UsageError, check_known

if TYPE_CHECKING:
    import altair as alt

FORMATS: Final = ("png", "svg", "pdf")
FIGURE_WIDTHS: Final = ("text", "column")
SCALE: Final = 3
"""Pixels of a PNG for one of the drawing: 640 are 6.4 inches at 300 dpi."""
PAGE_FONT: Final = "system-ui, sans-serif"
FILE_FONT: Final = "Liberation Sans, Arial, Helvetica, sans-serif"
MUTED_AXIS: Final = {
    "labelColor": "var(--muted)",
    "titleColor": "var(--muted)",
    "gridColor": "var(--grid)",
    "domainColor": "var(--grid)",
    "tickColor": "var(--grid)",
    "ticks": False,
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "titlePadding": 8,
    "labelPadding": 6,
    "labelOverlap": True,
}
CONFIG: Final[Mapping[str, Any]] = {
    "background": "transparent",
    "aria": False,  # the page names every drawing itself
    "view": {"stroke": None},
    "axis": MUTED_AXIS,
    "title": {"color": "var(--ink)"},
    "legend": {"labelColor": "var(--ink)", "labelFontSize": 12},
    "bar": {"cornerRadius": 0},
}


def specification(drawing: alt.LayerChart) -> dict[str, Any]:
    """Return the Vega-Lite specification of a drawing that is as wide as its container."""
    found = {**dictionary(drawing), "config": {**CONFIG, "font": PAGE_FONT}, "width": "container"}
    return found | {"autosize": {"type": "fit-x", "contains": "padding", "resize": True}, "padding": 3}


def dictionary(drawing: alt.LayerChart | alt.ConcatChart) -> dict[str, Any]:
    """Return an Altair chart as a dictionary, whatever theme the user has enabled.

    Altair's check against the schema takes as long as everything else, so it is left to the tests.
    """
    import altair as alt

    with alt.theme.enable("none"):
        found: dict[str, Any] = drawing.to_dict(validate=False)
    return found


def plain(value: Any) -> Any:
    """Return JSON's own types: no NaN, six digits, and only what can be printed in a text."""
    if isinstance(value, Mapping):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, str):
        return printable(value)
    return value


def static_svg(spec: Mapping[str, Any], width: int, name: str) -> Markup:
    """Return a `specification` as an SVG element with the colours of the page's style sheet.

    It is `width` pixels wide. The ids of its elements, which are ids of the page, start with `name`.
    """
    return Markup(shared(_svg({**spec, "width": width}), name))


def fixed_svg(drawing: alt.LayerChart | alt.ConcatChart, name: str) -> Markup:
    """Return a drawing that has a width and padding of its own; see `static_svg`."""
    return Markup(shared(_svg({**dictionary(drawing), "config": {**CONFIG, "font": PAGE_FONT}}), name))


def _svg(spec: Mapping[str, Any]) -> str:
    return numbered(vega().vegalite_to_svg(json.dumps(plain(spec)), allowed_base_urls=[]))


def vega() -> Any:
    """Return the module that converts charts; it starts a JavaScript engine when it is first used."""
    import vl_convert

    return vl_convert


def numbered(svg: str) -> str:
    """Number the ids of an SVG anew: Vega counts them on from picture to picture."""
    places: dict[str, int] = {}
    return re.sub(r"(?<=[\"#])clip\d+", lambda found: f"clip{places.setdefault(found[0], len(places))}", svg)


MARK: Final = re.compile(r'<path transform="translate\(([-\d.]+),([-\d.]+)\)" (d="[^"]+" [^>]*)/>')
UNUSED: Final = re.compile(r' (?:xmlns(?::xlink)?|version|class|pointer-events|aria-hidden)="[^"]*"')
IDS: Final = re.compile(r'(\bid="|url\(#)')


def shared(svg: str, name: str) -> str:
    """Return an SVG element without unused attributes and invisible marks, its ids starting with `name`.

    Marks that look alike are defined once and placed by reference: a cloud of a thousand takes a fifth.
    """
    looks: dict[str, str] = {}

    def place(found: re.Match[str]) -> str:
        x, y, look = found.groups()
        key = looks.setdefault(look, f"{name}-m{len(looks)}")
        return f'<use href="#{key}" x="{float(x):.1f}" y="{float(y):.1f}"/>'

    svg = re.sub("<[^>]*>", lambda tag: IDS.sub(rf"\g<1>{name}-", UNUSED.sub("", tag[0])), svg)
    svg = re.sub(r'<path [^>]*(?<!-)\bopacity="0"/>', "", svg)
    svg = MARK.sub(place, svg)
    marks = "".join(f'<path id="{key}" {look}/>' for look, key in looks.items())
    return svg.replace(">", f"><defs>{marks}</defs>", 1) if marks else svg


@cache
def colors() -> dict[str, str]:
    """Return the colours of the style sheet's light scheme by the name of their variable."""
    sheet = (files("equipoise.report") / "templates" / "page.css").read_text(encoding="utf-8")
    light = sheet[sheet.index(":root {") : sheet.index("}")]
    return dict(re.findall(r"(--[a-z0-9]+):\s*(#[0-9a-f]{6})\b", light))


def file_bytes(drawing: alt.LayerChart, kind: str) -> bytes:
    """Return a drawing as the content of a file of the format `png`, `svg` or `pdf`, on white."""
    config = {**CONFIG, "font": FILE_FONT, "background": "white"}
    text = json.dumps(plain({"padding": 8, **dictionary(drawing), "config": config}))
    values = {**colors(), "--paper": "#ffffff"}
    text = re.sub(r"var\((--[a-z0-9]+)\)", lambda found: values[found[1]], text)
    if kind == "png":
        return bytes(vega().vegalite_to_png(text, scale=SCALE, allowed_base_urls=[]))
    if kind == "pdf":
        return ordered(vega().vegalite_to_pdf(text, allowed_base_urls=[]))
    return numbered(vega().vegalite_to_svg(text, allowed_base_urls=[])).encode("utf-8")


def ordered(pdf: bytes) -> bytes:
    """Sort the entries of each list of resources of a PDF, whose order differs from call to call.

    Entries are lines of one object, so no offset in the file changes.
    """
    entries = re.compile(rb"(?:^ +/\w+ \d+ 0 R\n)+", re.MULTILINE)
    return entries.sub(lambda found: b"".join(sorted(found[0].splitlines(keepends=True))), pdf)


def write_figures(
    charts: Sequence[Chart], folder: Path, formats: Sequence[str] | None = None, width: str = "text"
) -> list[Path]:
    """Write each chart as `FOLDER/NAME.FORMAT`, with title and legend, on white; return the files.

    Letters are text in SVG and embedded TrueType in PDF. The same chart gives the same bytes. A file is
    complete or not there at all; an existing one is replaced.

    Args:
        charts: what to draw.
        folder: of the files.
        formats: `png`, `svg` and `pdf`; None writes all.
        width: that of the `text` of a page, or of one of its two columns (`column`), with equal letters.

    Raises:
        UsageError: a format or width is another one, or two charts have one name.
        RunFolderError: a file cannot be written.
    """
    from equipoise.report.charts.figure import figure

    formats = formats or FORMATS
    check_formats(formats, width)
    names = [re.sub(r"[^\w-]+", "-", chart.name).strip("-") or "chart" for chart in charts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two charts would be written as {twice[0]}; expected one name a chart.")
    written = []
    for name, chart in zip(names, charts, strict=True):
        drawn = figure(chart, narrow=width == "column")
        for kind in formats:
            path = folder / f"{name}.{kind}"
            written.append(write_file(path, file_bytes(drawn, kind), "figure", "folder"))
    return written


def check_formats(formats: Sequence[str], width: str = "text") -> None:
    """Raise a `UsageError` for a format or width of figures that does not exist, before anything is drawn."""
    check_known("width of figures", [width], FIGURE_WIDTHS)
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"unknown format {unknown[0]!r} of figures; expected some of {', '.join(FORMATS)}.")


def write_file(path: Path, data: bytes, what: str, remedy: str) -> Path:
    """Write a file of a report, whole or not at all.

    Raises:
        NoSpaceError: the disk is full.
        RunFolderError: it cannot be written. The message names `what` it is and what to choose anew.
    """
    try:
        with room_for(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        check_machine(error)
        reason = error.strerror or error
        raise RunFolderError(f"cannot write the {what} {path} ({reason}); choose another {remedy}.") from None
    return path
