"""Single samples: sequences as lines, vectors as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from equipoise.files.printable import printable
from equipoise.report.charts.look import INK, PALETTE, by_color, layered, source, x_axis, y_axis
from equipoise.report.text.wording import shortened

WIDTH, HEIGHT, COLUMNS = 280, 110, 3
Samples = Sequence[tuple[str, NDArray[Any]]]


def lines(samples: Samples, features: Sequence[int]) -> alt.ConcatChart:
    """Return a chart of each sequence `[T, d]`: a line for each of these features, over time."""
    colors = {str(feature): PALETTE[place % len(PALETTE)] for place, feature in enumerate(features)}
    rows = [
        [
            {"step": step, "value": float(values[step, feature]), "feature": str(feature)}
            for feature in features
            for step in range(len(values))
        ]
        for _, values in samples
    ]

    def drawn(own: Sequence[Mapping[str, Any]], y: alt.Y) -> alt.Chart:
        x = x_axis("step", "step", ticks=5)
        return source(own).mark_line(strokeWidth=1.4, clip=True).encode(x, y, by_color("feature", colors))

    return _beside([name for name, _ in samples], rows, drawn)


def bars(samples: Samples) -> alt.ConcatChart:
    """Return a chart of each vector `[d]`: a bar for each feature."""
    rows = [
        [
            {"low": place - 0.4, "high": place + 0.4, "value": float(value), "zero": 0.0}
            for place, value in enumerate(values)
        ]
        for _, values in samples
    ]

    def drawn(own: Sequence[Mapping[str, Any]], y: alt.Y) -> alt.Chart:
        x = x_axis("low", "feature", ticks=5)
        bar = source(own).mark_rect(color=PALETTE[1], clip=True)
        return bar.encode(x, y, alt.X2("high:Q"), alt.Y2("zero:Q"))

    return _beside([name for name, _ in samples], rows, drawn)


def _beside(names: Sequence[str], rows: Sequence[Sequence[Mapping[str, Any]]], drawn: Any) -> alt.ConcatChart:
    """Return the charts side by side with one scale of values, so that they can be compared."""
    values = np.array([row["value"] for own in rows for row in own] + [0.0])
    domain = [float(values.min()), float(values.max()) or 1.0]
    y = y_axis("value", "", domain, ticks=4)
    charts = [
        layered(drawn(own, y), height=HEIGHT).properties(
            width=WIDTH, title=alt.Title(printable(shortened(name)), fontSize=12, anchor="start", color=INK)
        )
        for name, own in zip(names, rows, strict=True)
    ]
    return alt.concat(*charts, columns=COLUMNS, spacing=18)
