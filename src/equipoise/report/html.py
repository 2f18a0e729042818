"""One HTML file that holds everything: words, tables, figures, style, and the library that draws."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from equipoise.cache import cache_folder
from equipoise.files.printable import printable
from equipoise.files.whole import write_atomically
from equipoise.report.charts.chart import Chart
from equipoise.report.pages.page import Page
from equipoise.report.render import fixed_svg, plain, specification, static_svg, vega, write_file
from equipoise.types import NoSpaceError

WIDE, NARROW, COLUMN = 860, 358, {2: 500, 3: 340}
"""Widths of pictures without JavaScript: one panel on a screen and on a phone, and panels side by side."""


def write(page: Page, path: Path) -> Path:
    """Write the page, whole or not at all.

    Raises:
        RunFolderError: the file cannot be written.
    """
    # Names of files may hold bytes that are not letters; a page must be UTF-8.
    return write_file(path, render(page).encode("utf-8", "replace"), "report", "file")


def render(page: Page) -> str:
    """Return the page as HTML.

    Every text is escaped by the template, and its control characters are printed as escapes. Only three
    things are inserted without escaping: files of this package and of Vega, SVG elements made by Vega, and
    JSON without a letter that HTML could read.

    Raises:
        ValueError: two charts have one name, which is an id of the page.
    """
    environment = Environment(
        loader=PackageLoader("equipoise.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printed,
    )
    environment.filters["breakable"] = breakable
    environment.filters["fixed_svg"] = lambda drawing, place: fixed_svg(drawing, f"drawing{place}")
    templates = files("equipoise.report") / "templates"
    names = [chart.name for chart in page.all_charts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two charts of the page are named {twice[0]!r}; expected one name a chart.")
    specifications = {c.name: [specification(panel.drawing) for panel in c.panels] for c in page.all_charts}
    figures = {
        f"{name}-{place}": spec for name, specs in specifications.items() for place, spec in enumerate(specs)
    }
    return environment.get_template("page.html.j2").render(
        page=page,
        version=version("equipoise"),
        style=Markup((templates / "page.css").read_text(encoding="utf-8")),
        script=Markup((templates / "page.js").read_text(encoding="utf-8")),
        vega=Markup(library()) if figures else "",
        figures=embedded(figures),
        statics={
            c.name: static_panels(c, specifications[c.name], f"s{place}")
            for place, c in enumerate(page.all_charts)
        },
    )


@cache
def library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, which needs neither network nor `eval`.

    Bundling takes a second, so the script is kept in the user's cache folder, with its digest.
    """
    file = cache_folder() / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError, ValueError):
        digest, _, script = file.read_bytes().decode().partition("\n")
        if digest == _digest(script):
            return script
    script = str(vega().javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    with suppress(OSError, NoSpaceError):  # a cache that cannot be written costs time only
        write_atomically(file, f"{_digest(script)}\n{script}")
    return script


def _digest(script: str) -> str:
    return hashlib.blake2b(script.encode()).hexdigest()


def static_panels(chart: Chart, specifications: Sequence[Mapping[str, Any]], ids: str = "s") -> list[Markup]:
    """Return each panel's pictures for a reader without JavaScript, for a wide window and for a phone.

    The pictures are drawn from the `specifications` of its panels; their ids start with `ids`.
    """
    wide = COLUMN.get(chart.columns, WIDE)
    picture = Markup('<div class="static {}" role="img" aria-label="{}">{}</div>')
    panels = []
    for place, (panel, spec) in enumerate(zip(chart.panels, specifications, strict=True)):
        both = Markup("")
        for kind, width in (("wide", wide), ("narrow", NARROW)):
            svg = static_svg(spec, width, f"{ids}-{place}{kind[0]}")
            both += picture.format(kind, printable(panel.description), svg)
        panels.append(both)
    return panels


def breakable(text: str) -> Markup:
    """Escape a name, and let it break after its punctuation where a narrow column needs it."""
    return Markup(re.sub(r"[:/_=,-](?=\w)", r"\g<0><wbr>", str(escape(printable(text)))))


def printed(value: Any) -> Any:
    """Return a text of a template with its control characters as escapes; markup and others as they are."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def embedded(value: Any) -> Markup:
    """Return a value as JSON that is safe inside a script element, whatever its texts contain."""
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)
