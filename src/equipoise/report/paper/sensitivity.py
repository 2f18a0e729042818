"""Figure 5: test accuracy over the strength and over the time of re-learning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from equipoise.experiments.compare.comparison import BASELINE, Comparison
from equipoise.experiments.paper.item import OURS
from equipoise.experiments.paper.items.figure5 import EVERY, STRENGTH
from equipoise.experiments.paper.plan import PlannedCase
from equipoise.experiments.paper.reproduce import Reproduction
from equipoise.report.charts import look
from equipoise.report.charts.chart import Chart, Key, Panel
from equipoise.report.text.tables import Cell, Table, amount, rounded
from equipoise.report.text.wording import Spread

HEIGHT: Final = 200
AXES: Final = {
    STRENGTH: ("\N{GREEK SMALL LETTER LAMDA}", 3.0),
    EVERY: ("H, epochs between re-learnings in a run of 90", 20.0),
}
"""Title of each axis, and the default of its option."""


def sensitivity(found: Reproduction) -> Chart:
    """Return a panel a set and option, with joint training as a line."""
    panels, rows = [], []
    for data in dict.fromkeys(case.data for case in found.cases):
        own = [case for case in found.cases if case.data == data]
        spreads = {case.cell.name: _spread(found.comparisons[case.cell.name], OURS) for case in own}
        joint = _spread(found.comparisons[own[0].cell.name], BASELINE)  # the same in all cases of a set
        # All panels of a set share the vertical axis.
        ends = [end for spread in spreads.values() for end in (spread.low, spread.high)]
        reach = look.padded([*ends, joint.mean])
        for option in AXES:
            held = [case for case in own if case.case.axis == option]
            panels.append(
                _panel(f"{data}: {option}", option, held, [spreads[c.cell.name] for c in held], joint, reach)
            )
        rows += [_row(case.title, spreads[case.cell.name]) for case in own]
        rows.append(_row(f"{data}, {BASELINE}", joint))
    caption = (
        "Test accuracy of diagnose-relearn: lines are means over seeds, bands reach from the lowest to the "
        "highest seed. Dashed: the mean of joint training. Dotted: the default. One option varies, the other "
        "keeps its default."
    )
    legend = [
        Key(OURS, look.PALETTE[0]),
        Key(BASELINE, look.MUTED, "dash"),
        Key("default", look.MUTED, "dot"),
    ]
    return Chart(
        "sensitivity", "", caption, panels, 2, legend, Table.of("Test accuracy over seeds.", rows, ("case",))
    )


def _spread(comparison: Comparison, method: str) -> Spread:
    results = comparison.results
    finished = results[(results["status"] == "ok") & (results["method"] == method)]
    return Spread.of(map(float, finished["test_accuracy"]))


def _row(case: str, spread: Spread) -> dict[str, Cell]:
    return {
        "case": Cell(case),
        "mean": rounded(spread.mean),
        "lowest seed": rounded(spread.low),
        "highest seed": rounded(spread.high),
        "seeds": amount(spread.n, str(spread.n)),
    }


def _panel(
    heading: str,
    option: str,
    cases: Sequence[PlannedCase],
    spreads: Sequence[Spread],
    joint: Spread,
    reach: Sequence[float] | None,
) -> Panel:
    title, usual = AXES[option]
    rows = [
        {"value": case.case.value, "mean": s.mean, "low": s.low, "high": s.high}
        for case, s in zip(cases, spreads, strict=True)
    ]
    values = [float(row["value"]) for row in rows]
    x = look.x_axis("value", title, look.padded([*values, usual]))
    up: Any = partial(look.y_axis, title="test accuracy", domain=reach)
    tips = look.tips(value="g", mean=".3f", low=".3f", high=".3f")
    dots = look.source(rows).mark_point(filled=True, size=50, color=look.PALETTE[0], opacity=1)
    drawing = look.layered(
        look.rules([usual], x, "value", "dot"),
        look.rules([joint.mean], up("mean"), "mean"),
        look.band(rows, x, up("low"), "high", look.PALETTE[0]),
        look.curve(rows, x, up("mean"), look.PALETTE[0], "line", tips),
        dots.encode(x, up("mean"), tooltip=tips),
        height=HEIGHT,
    )
    return Panel(heading, f"test accuracy over {option}", drawing)
