"""A chart with its words. Nothing here draws, so importing this costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from equipoise.report.text.tables import Table
from equipoise.types import InNotebooks

if TYPE_CHECKING:
    import altair as alt

SHOWN = "shown"
"""The parameter of a drawing that holds the names of the series it shows."""


@dataclass(frozen=True)
class Panel:
    """One drawing of a chart: its heading, its description for a screen reader, and the Altair chart."""

    heading: str
    description: str
    drawing: alt.LayerChart


@dataclass(frozen=True)
class Key:
    """An entry of a chart's legend.

    Attributes:
        label: its text.
        color: of its sample, a CSS colour or variable.
        mark: shape of the sample, one of `figure.SAMPLES`.
        series: name of the series of the only panel that the entry shows and hides when pressed; an
            entry without a series is a label.
        hidden: whether that series is hidden at first.
    """

    label: str
    color: str
    mark: str = "line"
    series: str = ""
    hidden: bool = False


@dataclass(frozen=True)
class Chart(InNotebooks):
    """A chart with its words.

    Attributes:
        name: its place in the page (an HTML id) and the name of its file.
        title: what is drawn.
        caption: how to read it.
        panels: drawings, row by row.
        columns: panels side by side where there is room.
        legend: its keys.
        numbers: the same as a table.
    """

    shown_as = "chart"

    name: str
    title: str
    caption: str
    panels: Sequence[Panel]
    columns: int = 1
    legend: Sequence[Key] = field(default_factory=tuple)
    numbers: Table | None = None
