"""The figures of the paper: what their curves, bars and tables hold."""

from __future__ import annotations

from equipoise.experiments.paper.items.figure2 import ARROWS, BOXES, ITEM
from equipoise.experiments.paper.plan import Choices
from equipoise.experiments.paper.reproduce import Reproduction
from equipoise.report.paper.scheme import scheme
from equipoise.report.paper.training import _line
from equipoise.report.render import dictionary
from equipoise.training.record.trace import TracePoint


def point(epoch: int, event: str, value: float) -> TracePoint:
    return TracePoint(epoch, event, {}, {"test": value})


def test_a_relearning_steps_within_its_epoch() -> None:
    traces = [
        [
            point(0, "epoch", 0.1),
            point(2, "before-relearning", 0.5),
            point(2, "after-relearning", 0.2),
            point(2, "epoch", 0.2),
        ],
        [point(0, "epoch", 0.3)],
    ]
    line = _line(traces, lambda p: p.accuracy["test"])
    assert list(line) == [(0, 1), (2, 0), (2, 1)]
    assert [(s.mean, s.low, s.high) for s in line.values()] == [(0.2, 0.1, 0.3), (0.5,) * 3, (0.2,) * 3]


def test_the_scheme_draws_every_box_and_arrow() -> None:
    (panel,) = scheme(Reproduction(ITEM, Choices(), False)).panels
    drawn = dictionary(panel.drawing)
    held = drawn["datasets"]
    counts = {layer["mark"]["type"]: len(held[layer["data"]["name"]]) for layer in drawn["layer"]}
    assert counts == {"rect": len(BOXES), "rule": len(ARROWS), "point": len(ARROWS), "text": len(BOXES)}
