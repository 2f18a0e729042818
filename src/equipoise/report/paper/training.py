"""Figure 4: purity gap, purity of test features and test accuracy over training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from equipoise.experiments.compare.comparison import Comparison
from equipoise.experiments.paper.item import OURS
from equipoise.experiments.paper.reproduce import Reproduction
from equipoise.experiments.paper.runs import finished_runs
from equipoise.report.charts import look
from equipoise.report.charts.chart import Chart, Key, Panel
from equipoise.report.text.tables import Cell, Table, rounded, whole
from equipoise.report.text.wording import Spread
from equipoise.training.record.trace import TracePoint, read_trace

HEIGHT: Final = 200
BEFORE, AFTER = "before-relearning", "after-relearning"
STYLES: Final = {"joint": (look.MUTED, "dash"), OURS: (look.PALETTE[0], "line")}
Measure = Callable[[TracePoint], float]
Moment = tuple[int, int]
"""An epoch, and 0 before a re-learning at its end, 1 after it or without one."""
Lines = Mapping[str, Mapping[Moment, Spread]]
"""Method to moment to the values over seeds."""


def training(found: Reproduction) -> Chart:
    """Return the panels of each case, and their numbers."""
    panels: list[Panel] = []
    numbers: dict[str, Lines] = {}
    for case in found.cases:
        traces = _traces(found.comparisons[case.cell.name])
        moments = sorted({p.epoch for own in traces[OURS] for p in own if p.event == AFTER})
        drawn = {
            (title, unit): {method: _line(own, measure) for method, own in traces.items()}
            for title, unit, measure in _measures(traces)
        }
        for (title, unit), lines in drawn.items():
            heading = f"{case.title}: {title}" if len(found.cases) > 1 else title
            alike = [other for (_, of), other in drawn.items() if of == unit]  # they share their axis
            panels.append(_panel(heading, unit, lines, moments, _reach(unit, alike)))
            numbers[heading] = lines
    caption = (
        "Lines are means over seeds, bands reach from the lowest to the highest seed. At a re-learning the "
        "lines step: measured right before, and right after. The gap is the purity of training minus that of "
        "validation features, by k-means. The test split was measured when training had ended, on kept "
        "weights; it decided nothing."
    )
    legend = [Key(method, *style) for method, style in STYLES.items()]
    legend.append(Key("re-learning", look.MUTED, "rule"))
    return Chart("training", "", caption, panels, 2, legend, _table(numbers))


def _traces(comparison: Comparison) -> dict[str, list[list[TracePoint]]]:
    """Return the traces of the runs of each method."""
    found: dict[str, list[list[TracePoint]]] = {method: [] for method in STYLES}
    for method, _, folder in finished_runs(comparison):
        found[method].append(read_trace(folder) or [])
    return found


def _measures(traces: Mapping[str, Sequence[Sequence[TracePoint]]]) -> list[tuple[str, str, Measure]]:
    points = [point for own in traces.values() for trace in own for point in trace]
    names = list(points[0].modalities) if points else []

    def gap(point: TracePoint, name: str) -> float:
        return point.modalities[name]["train"] - point.modalities[name]["val"]

    def purity(point: TracePoint, name: str) -> float:
        return point.modalities[name]["test"]

    return [
        *((f"purity gap, {name}", "purity gap", partial(gap, name=name)) for name in names),
        *((f"test purity, {name}", "purity", partial(purity, name=name)) for name in names),
        ("test accuracy of the model", "accuracy", lambda point: point.accuracy["test"]),
    ]


def _line(traces: Sequence[Sequence[TracePoint]], measure: Measure) -> dict[Moment, Spread]:
    held: dict[Moment, dict[int, float]] = {}
    for seed, trace in enumerate(traces):
        for point in trace:
            held.setdefault((point.epoch, int(point.event != BEFORE)), {})[seed] = measure(point)
    return {moment: Spread.of(held[moment].values()) for moment in sorted(held)}


def _reach(unit: str, lines: Sequence[Lines]) -> Sequence[float] | None:
    spreads = [spread for methods in lines for own in methods.values() for spread in own.values()]
    ends = [end for spread in spreads for end in (spread.low, spread.high)]
    return look.padded([*ends, 0.0] if unit == "purity gap" else ends)


def _panel(
    heading: str, unit: str, lines: Lines, moments: Sequence[int], reach: Sequence[float] | None
) -> Panel:
    epochs = [epoch for own in lines.values() for epoch, _ in own]
    x = look.x_axis("epoch", "epoch", [min(epochs), max(epochs)] if epochs else None, form="d")
    up = partial(look.y_axis, title=unit, domain=reach)
    layers: list[Any] = [look.rules(moments, x, "epoch", "dot")]
    for method, own in lines.items():
        color, dash = STYLES[method]
        rows = [
            {"method": method, "epoch": epoch, "mean": s.mean, "low": s.low, "high": s.high}
            for (epoch, _), s in own.items()
        ]
        layers.append(look.band(rows, x, up("low"), "high", color))
        tips = look.tips(method="", epoch="d", mean=".3f")
        layers.append(look.curve(rows, x, up("mean"), color, dash, tips))
    return Panel(heading, f"{heading} over epochs", look.layered(*layers, height=HEIGHT))


def _table(numbers: Mapping[str, Lines]) -> Table:
    """Return the means: a row a moment, a column a panel and method."""
    moments = sorted({moment for lines in numbers.values() for own in lines.values() for moment in own})
    stepped = {epoch for epoch, after in moments if not after}
    words = {0: "before re-learning", 1: "after re-learning"}
    rows, none = [], Spread.of([])
    for epoch, after in moments:
        row = {"epoch": whole(epoch), "moment": Cell(words[after] if epoch in stepped else "")}
        for heading, lines in numbers.items():
            row |= {
                f"{heading}, {m}": rounded(own.get((epoch, after), none).mean) for m, own in lines.items()
            }
        rows.append(row)
    return Table.of("Means over seeds.", rows, ("moment",))
