"""The chart of a confusion matrix."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final

import altair as alt
import numpy as np
from numpy.typing import ArrayLike

from equipoise.files.printable import printable
from equipoise.report.charts import look
from equipoise.report.charts.chart import Chart, Panel
from equipoise.report.text.tables import Cell, Table
from equipoise.report.text.wording import counted, decimal

CELL_NUMBERS: Final = 12
"""Classes up to which the cells hold numbers."""
TABLE_CLASSES: Final = 40


def confusion(counts: ArrayLike, classes: Sequence[str], split: str = "validation") -> Chart | None:
    """Return a confusion matrix, each row in shares of its true class.

    Args:
        counts: samples of true class (row) that were taken for a class (column), `[C, C]`.
        classes: their names.
        split: what was predicted.
    """
    table = np.asarray(counts, dtype=np.float64)
    if not table.size or not table.sum():
        return None
    size, accuracy = len(classes), float(np.trace(table) / table.sum())
    caption = (
        f"Shares of the samples of each true class (row) by the class that was predicted, {split} split: "
        f"{counted(int(table.sum()), 'sample')}, accuracy {decimal(accuracy, 3)}."
    )
    said = f"Confusion matrix of {size} classes on the {split} split; the accuracy is {decimal(accuracy, 3)}."
    return Chart(
        f"confusion-{split}",
        f"Confusion matrix, {split}",
        caption,
        [Panel("", said, _drawing(table, [str(name) for name in classes]))],
        2,  # half the page's width, so that cells are about square
        numbers=_table(table, classes) if size <= TABLE_CLASSES else None,
    )


def _drawing(table: Any, classes: Sequence[str]) -> alt.LayerChart:
    size, totals = len(classes), table.sum(axis=1)
    rows = [
        {
            "row": int(row),
            "column": int(column),
            "true class": classes[row],
            "predicted class": classes[column],
            "share": float(table[row, column] / totals[row]),
            "samples": int(table[row, column]),
            "of": int(totals[row]),
        }
        for row, column in np.argwhere(table > 0)
    ]
    # Names may be equal once they are cut, so the axes are of numbers, with the names as their labels.
    step = math.ceil(size / TABLE_CLASSES)
    limit = 100 if size > CELL_NUMBERS else 130
    axis: dict[str, Any] = {
        "labelExpr": f"{json.dumps([*map(printable, classes)])}[datum.value]",
        "labelLimit": limit,
        "values": list(range(0, size, step)),
        "grid": False,
    }
    scale = alt.Scale(domain=list(range(size)), paddingInner=0.03 if size <= CELL_NUMBERS else 0)
    x = alt.X("column:O", title="predicted class", axis=alt.Axis(labelAngle=-90, **axis), scale=scale)
    y = alt.Y("row:O", title="true class", axis=alt.Axis(**axis), scale=scale)
    shown = look.tips(samples=",d", of=",d", **{"true class": "", "predicted class": ""})
    opacity = alt.FillOpacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1]), legend=None)
    layers = [look.source(rows).mark_rect(color=look.INK).encode(x, y, opacity, tooltip=shown)]
    if size <= CELL_NUMBERS:
        dark = alt.when(alt.datum.share > 0.6).then(alt.value(look.PAPER)).otherwise(alt.value(look.INK))
        numbers = look.source(rows).mark_text(fontSize=12, tooltip=None)
        shares = numbers.transform_calculate(written="format(datum.share, '.2f')")
        layers.append(shares.encode(x, y, color=dark, text="written:N"))
    height = max(110, 34 * size) if size <= CELL_NUMBERS else min(550, 14 * size)
    return look.layered(*layers, height=height)


def _table(table: Any, classes: Sequence[str]) -> Table:
    rows = [
        [Cell(str(classes[row])), *(Cell(f"{int(count):,}", float(count)) for count in line)]
        for row, line in enumerate(table)
    ]
    return Table("Samples by true class (row) and predicted class.", ["true class", *map(str, classes)], rows)
