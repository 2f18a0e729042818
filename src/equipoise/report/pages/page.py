"""What a page is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from equipoise.report.charts.chart import Chart
from equipoise.report.pictures import Picture
from equipoise.report.text.sentences import Statement
from equipoise.report.text.tables import Table

if TYPE_CHECKING:
    import altair as alt


@dataclass(frozen=True)
class Notice:
    """An important fact, such as a failure."""

    text: str
    items: Sequence[str] = ()


@dataclass(frozen=True)
class Fold:
    """A part of the details that opens on demand."""

    title: str
    texts: Sequence[str] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Drawing:
    """A picture of fixed width that is not live: title, how to read it, what it shows, and the chart."""

    title: str
    caption: str
    description: str
    drawing: alt.LayerChart | alt.ConcatChart


@dataclass(frozen=True)
class Specimen:
    """One sample as a picture or as text: its class and its id, and what it shows."""

    label: str
    name: str
    picture: Picture | None = None
    text: str = ""


@dataclass(frozen=True)
class Sheet:
    """Several samples, one below the other, and how to read them."""

    caption: str
    specimens: Sequence[Specimen]


@dataclass(frozen=True)
class Section:
    """A part of a page about one of its subjects, such as a dataset.

    Attributes:
        title: its subject.
        facts: what was run, in a few words each.
        statements: what was found.
        notices: important facts, such as failures.
        tables: the results.
        drawing: a picture that is not live.
        sheet: samples as pictures or texts.
        charts: the live pictures.
    """

    title: str
    facts: Sequence[str] = ()
    statements: Sequence[Statement] = ()
    notices: Sequence[Notice] = ()
    tables: Sequence[Table] = ()
    drawing: Drawing | None = None
    sheet: Sheet | None = None
    charts: Sequence[Chart] = ()


@dataclass(frozen=True, kw_only=True)
class Page(Section):
    """What a report shows, from top to bottom.

    Attributes:
        kind: what it reports on, such as `comparison`.
        sections: parts about single subjects, below what holds for all of them.
        folds: the details.
    """

    kind: str
    sections: Sequence[Section] = ()
    folds: Sequence[Fold] = ()

    @property
    def all_charts(self) -> list[Chart]:
        """The charts of the page and of its sections."""
        return [*self.charts, *(chart for section in self.sections for chart in section.charts)]
