"""Figure 2: the scheme of Diagnosing & Re-learning, as boxes on a grid and the arrows between them."""

from __future__ import annotations

from typing import Final, NamedTuple

from equipoise.experiments.paper.item import Item

ALPHA, LAMBDA, THETA, MINUS = (
    "\N{GREEK SMALL LETTER ALPHA}",
    "\N{GREEK SMALL LETTER LAMDA}",
    "\u03b8",
    "\u2212",
)


class Box(NamedTuple):
    """A step.

    Attributes:
        column, row: its centre; row 0 is on top.
        name: what is done.
        formula: with what, in a second line.
    """

    column: float
    row: float
    name: str
    formula: str = ""


BOXES: Final = {
    "train": Box(0, 0, "training samples", "x, y"),
    "val": Box(0, 1, "validation samples", "x, y"),
    "encoder": Box(1, 0.5, "encoder", f"{THETA} after some epochs"),
    "train purity": Box(2, 0, "k-means clusters", "purity P(train)"),
    "val purity": Box(2, 1, "k-means clusters", "purity P(val)"),
    "gap": Box(3, 0.5, "diagnose the gap", f"|P(train) {MINUS} P(val)|"),
    "strength": Box(3, 2, "strength", f"{ALPHA} = tanh({LAMBDA} gap)"),
    "relearn": Box(1.75, 2, "re-learn", f"{THETA} = (1 {MINUS} {ALPHA}) {THETA} + {ALPHA} {THETA}(initial)"),
    "train on": Box(0.25, 2, "train all modalities", "cross-entropy, next epochs"),
}
ARROWS: Final = (
    ("train", "encoder"),
    ("val", "encoder"),
    ("encoder", "train purity"),
    ("encoder", "val purity"),
    ("train purity", "gap"),
    ("val purity", "gap"),
    ("gap", "strength"),
    ("strength", "relearn"),
    ("relearn", "train on"),
    ("train on", "encoder"),
)

ITEM = Item(name="figure2", title="The scheme of Diagnosing & Re-learning", form="scheme")
