"""Figure 2: the scheme as boxes and arrows."""

from __future__ import annotations

import math
from typing import Any, Final

import altair as alt

from equipoise.experiments.paper.items.figure2 import ARROWS, BOXES, Box
from equipoise.experiments.paper.reproduce import Reproduction
from equipoise.report.charts import look
from equipoise.report.charts.chart import Chart, Panel

WIDTH, HEIGHT = 578, 300
"""Of the drawing in pixels."""
HALF_HEIGHT: Final = 0.28
"""Of a box, in rows."""
LETTERS: Final = (6.8, 6.2)
"""Pixels of a letter of a name, and of a formula."""
AIR, HEAD = 18, 5
"""Pixels beside the text of a box, and from the middle of the head of an arrow to its end."""
REACH: Final = ([-0.5, 3.5], [2.4, -0.4])


def scheme(found: Reproduction) -> Chart:
    """Return the drawing; it has no numbers."""
    x, y = (
        channel(f"{name}:Q", axis=None, scale=alt.Scale(domain=reach, nice=False, zero=False))
        for channel, name, reach in ((alt.X, "x", REACH[0]), (alt.Y, "y", REACH[1]))
    )
    boxes = look.source(_corners(box) for box in BOXES.values())
    drawing = look.layered(
        boxes.mark_rect(cornerRadius=5, fill=look.PAPER, stroke=look.PALETTE[0], strokeWidth=1.5).encode(
            x, alt.X2("right:Q"), y, alt.Y2("bottom:Q")
        ),
        *_arrows(x, y),
        *_texts(x, y),
        height=HEIGHT,
    )
    caption = (
        "After some epochs, each modality is diagnosed by how much better its encoder separates training "
        "than validation samples, and its encoder is pulled toward its initial weights in proportion."
    )
    said = "boxes and arrows: encode, cluster, compare purities, strength, re-learn, train"
    return Chart("scheme", found.item.title, caption, [Panel("", said, drawing)])


def _half(box: Box) -> float:
    """Return half the width of a box, in columns."""
    texts = zip((box.name, box.formula), LETTERS, strict=True)
    return (max(len(text) * letter for text, letter in texts) + AIR) / 2 / _column()


def _column() -> float:
    return WIDTH / (REACH[0][1] - REACH[0][0])


def _row() -> float:
    return HEIGHT / (REACH[1][0] - REACH[1][1])


def _corners(box: Box) -> dict[str, float]:
    return {
        "x": box.column - _half(box),
        "right": box.column + _half(box),
        "y": box.row - HALF_HEIGHT,
        "bottom": box.row + HALF_HEIGHT,
    }


def _texts(x: alt.X, y: alt.Y) -> list[alt.Chart]:
    rows = [{"x": b.column, "y": b.row, "name": b.name, "formula": b.formula} for b in BOXES.values()]
    marks = []
    for field, shift, size, color in (("name", -8, 13, look.INK), ("formula", 10, 12, look.MUTED)):
        text = look.source(rows).mark_text(dy=shift, fontSize=size, color=color)
        marks.append(text.encode(x, y, text=f"{field}:N"))
    return marks


def _arrows(x: alt.X, y: alt.Y) -> list[alt.Chart]:
    lines, heads = [], []
    for start, end in ARROWS:
        one, other = BOXES[start], BOXES[end]
        begin, finish = _edge(one, other), _edge(other, one)
        across, down = (finish[0] - begin[0]) * _column(), (finish[1] - begin[1]) * _row()
        short = HEAD / math.hypot(across, down)
        middle = [end - short * (end - start) for start, end in zip(begin, finish, strict=True)]
        lines.append({"x": begin[0], "y": begin[1], "right": middle[0], "bottom": middle[1]})
        # A triangle points up, and turns clockwise.
        heads.append({"x": middle[0], "y": middle[1], "angle": math.degrees(math.atan2(down, across)) + 90})
    rule = look.source(lines).mark_rule(color=look.MUTED, strokeWidth=1.5)
    head: Any = look.source(heads).mark_point(
        shape="triangle", filled=True, size=110, color=look.MUTED, opacity=1
    )
    return [
        rule.encode(x, alt.X2("right:Q"), y, alt.Y2("bottom:Q")),
        head.encode(x, y, angle=alt.Angle("angle:Q", scale=None)),
    ]


def _edge(box: Box, other: Box) -> tuple[float, float]:
    """Return where an arrow to another box leaves a box, or comes in: at its side, top or bottom."""
    across, down = other.column - box.column, other.row - box.row
    if abs(down) >= 1:
        return box.column, box.row + math.copysign(HALF_HEIGHT, down)
    return box.column + math.copysign(_half(box), across), box.row + (
        0.0 if down == 0 else 0.12 * math.copysign(1, down)
    )
