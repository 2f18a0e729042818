"""One HTML file that holds everything: words, tables, figures, style, and the library that draws."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from equipoise.report.figures import Chart
from equipoise.report.sentences import Statement
from equipoise.report.static import static_panels
from equipoise.report.tables import Table
from equipoise.training.record.record import write_atomically
from equipoise.types import RunFolderError


@dataclass(frozen=True)
class Notice:
    """Something that the reader must not overlook."""

    text: str
    items: Sequence[str] = ()


@dataclass(frozen=True)
class Fold:
    """A part of the details that opens on demand; its charts are drawn when it does."""

    title: str
    texts: Sequence[str] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()


@dataclass(frozen=True)
class Drawing:
    """A finished picture: its title, how to read it, and the SVG element."""

    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Section:
    """A part of a page about one of its subjects, such as a dataset.

    Attributes:
        title: its subject.
        facts, statements, notices, tables, charts: see `Page`.
        drawing: a finished picture.
        folds: its details.
    """

    title: str
    facts: Sequence[str] = ()
    statements: Sequence[Statement] = ()
    notices: Sequence[Notice] = ()
    tables: Sequence[Table] = ()
    drawing: Drawing | None = None
    charts: Sequence[Chart] = ()
    folds: Sequence[Fold] = ()


@dataclass(frozen=True)
class Page:
    """What a report shows, from top to bottom.

    Attributes:
        kind: what it reports on, such as `comparison`.
        title: its subject.
        facts: what was run, in a few words each.
        statements: what was found.
        notices: what must not be overlooked.
        tables: the results.
        charts: the pictures.
        folds: the details.
        sections: parts about several subjects, which stand below all that is said of them together.
    """

    kind: str
    title: str
    facts: Sequence[str] = ()
    statements: Sequence[Statement] = ()
    notices: Sequence[Notice] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    folds: Sequence[Fold] = ()
    sections: Sequence[Section] = ()

    @property
    def all_charts(self) -> list[Chart]:
        """The charts of the page, of its sections, and of the folds of both."""
        whole: list[Page | Section] = [self, *self.sections]
        folds = [fold for part in whole for fold in part.folds]
        return [chart for part in [*whole, *folds] for chart in part.charts]


def render(page: Page) -> str:
    """Return the page as HTML.

    Every text is escaped by the template; what is put in as it is are files of this package and of plotly,
    and JSON without a letter that HTML could read.

    Raises:
        ValueError: two charts have one name, which is an id of the page.
    """
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("equipoise.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["breakable"] = breakable
    templates = files("equipoise.report") / "templates"
    names = [chart.name for chart in page.all_charts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two charts of the page are named {twice[0]!r}; expected one name a chart.")
    figures = {
        f"{chart.name}-{place}": panel.figure
        for chart in page.all_charts
        for place, panel in enumerate(chart.panels)
    }
    return environment.get_template("page.html.j2").render(
        page=page,
        version=version("equipoise"),
        style=Markup((templates / "page.css").read_text(encoding="utf-8")),
        script=Markup((templates / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()) if figures else "",
        figures=embedded(figures),
        statics={chart.name: static_panels(chart) for chart in page.all_charts},
    )


def breakable(text: str) -> Markup:
    """Escape a name, and let it break behind its punctuation where a narrow column asks for it."""
    return Markup(re.sub(r"[:/_=,-](?=\w)", r"\g<0><wbr>", str(escape(text))))


def embedded(value: Any) -> Markup:
    """Return a value as JSON that can stand inside a script element, whatever its texts hold."""
    text = json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _plain(value: Any) -> Any:
    """Return JSON's own types; JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        # Six digits are more than a screen shows, and half the size.
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def write(page: Page, path: Path) -> Path:
    """Write the page, whole or not at all.

    Raises:
        RunFolderError: the file cannot be written.
    """
    # Names of files may hold bytes that are no letters; a page must be UTF-8.
    text = render(page).encode("utf-8", "replace").decode("utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise RunFolderError(
            f"cannot write the report {path} ({error.strerror or error}); choose another file."
        ) from None
    return path
