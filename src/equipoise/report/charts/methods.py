"""The charts of a comparison that compare methods: the main figure by method, and over epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import altair as alt

from equipoise.experiments.compare.comparison import shown_name
from equipoise.experiments.compare.floors import is_below
from equipoise.report.charts import look
from equipoise.report.charts.chart import SHOWN, Chart, Key, Panel
from equipoise.report.records import Run
from equipoise.report.text.evidence import Evidence
from equipoise.report.text.main_figure import MainFigure
from equipoise.report.text.tables import Table, rounded, whole
from equipoise.report.text.wording import Spread, counted, decimal, listed, number, shortened

FIRST_SHOWN: Final = 6
"""Curves that are visible at first; the legend shows the others."""
TABLE_ROWS: Final = 40
NAME: Final = 34
"""Letters of a name over a row of dots."""
MANY: Final = 12
"""Rows above which they are lower, and only joint and re-learning have a colour."""
LOW_ROW: Final = 36


def method_styles(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """Return colour and dash of each method: joint in ink, the one that re-learns in the accent.

    The best of the others get the distinct colours: theirs are the curves that are visible at first.
    """
    others = [m for m in evidence.by_mean() if m not in (evidence.baseline, evidence.treatment)]
    colors, dashes = look.PALETTE[1:], list(look.DASHES)
    styles = {
        method: (colors[place % len(colors)], dashes[place // len(colors) % len(dashes)])
        for place, method in enumerate(others)
    }
    if evidence.baseline:
        styles[evidence.baseline] = (look.INK, "line")
    if evidence.treatment:
        styles[evidence.treatment] = (look.PALETTE[0], "line")
    return styles


def accuracy(evidence: Evidence) -> Chart | None:
    """Return the main test figure of each method, accuracy of classes: a dot a seed, mean and spread."""
    seeds = _seed_rows(evidence)
    if not any(math.isfinite(row["value"]) for row in seeds):
        return None
    base = number(evidence.methods[evidence.baseline]["mean"]) if evidence.baseline else math.nan
    spread = "mean \N{PLUS-MINUS SIGN} one standard deviation"
    legend = [Key("one seed", look.MUTED, "dots"), Key(spread, look.MUTED, "bar")]
    legend += [Key("mean of joint", look.MUTED, "rule")] if math.isfinite(base) else []
    caption = "Methods in the order of the table. The axis does not start at zero."
    title = f"Test {evidence.figure.name} by method"
    said = f"{title}; the results table holds the same numbers."
    drawing = _accuracy_drawing(evidence, seeds, base)
    return Chart("accuracy", title, caption, [Panel("", said, drawing)], legend=legend)


def _places(evidence: Evidence) -> dict[str, int]:
    """Return the row of each method, the best mean on top."""
    order = evidence.by_mean()
    return {method: len(order) - 1 - place for place, method in enumerate(order)}


def _seed_rows(evidence: Evidence) -> list[dict[str, Any]]:
    table, places = evidence.comparison.results, _places(evidence)
    rows = [
        {
            "method": str(row["method"]),
            "seed": int(row["seed"]),
            "value": number(row[f"test_{evidence.figure.key}"]),
            "place": places[str(row["method"])],
        }
        for row in table[table["status"] == "ok"].to_dict("records")
    ]
    return sorted(rows, key=lambda row: (-row["place"], row["seed"]))


def _mean_rows(evidence: Evidence) -> list[dict[str, Any]]:
    rows = []
    for method, place in _places(evidence).items():
        values = evidence.methods[method]
        mean, std = number(values["mean"]), number(values["std"])
        note = decimal(mean, 3) if math.isfinite(mean) else "no finished run"
        note += f" \N{PLUS-MINUS SIGN} {decimal(std, 3)}" if math.isfinite(std) else ""
        name = shown_name(shortened(method, NAME), {**values, "below_floor": is_below(values)})
        row = {"method": method, "name": name, "note": note, "place": place}
        rows.append({**row, "mean": mean, "low": mean - std, "high": mean + std})
    return rows


def _accuracy_drawing(evidence: Evidence, seeds: Sequence[Mapping[str, Any]], base: float) -> alt.LayerChart:
    means, figure, styles = _mean_rows(evidence), evidence.figure, method_styles(evidence)
    few = len(means) <= MANY
    central = (evidence.baseline, evidence.treatment)
    # The same five colours over and over would suggest groups where there are none.
    colors = {m: color if few or m in central else look.MUTED for m, (color, _) in styles.items()}
    reach = [row["value"] for row in seeds] + [row[end] for row in means for end in ("low", "high")]
    across = partial(
        look.x_axis,
        title=f"test {figure.name}",
        domain=look.padded(map(float, reach)),
        ticks=7,
        grid=True,
    )
    y, color = look.place_axis(len(means)), look.by_color("method", colors)
    stroke = look.by_color("method", colors, alt.Stroke)
    dots = look.source(seeds).mark_point(
        filled=True, size=85, fillOpacity=0.45, strokeWidth=1, strokeOpacity=1
    )
    shown = look.tips(method="", seed="d", value=(".3f", figure.name))
    bars = look.source(row for row in means if math.isfinite(row["low"]))
    ticks = look.source(row for row in means if math.isfinite(row["mean"])).mark_tick(
        orient="vertical", thickness=3, height=15, opacity=1
    )
    return look.layered(
        bars.mark_rule(strokeWidth=2).encode(across("low"), alt.X2("high:Q"), y, color),
        ticks.encode(across("mean"), y, color, tooltip=look.tips(method="", mean=".3f")),
        dots.encode(across("value"), y, color, stroke, tooltip=shown),
        look.rules([base], across("value"), "value", "dot"),
        *look.row_labels(means, y),
        height=(look.ROW if few else LOW_ROW) * (len(means) + 0.3),
    )


Series = Mapping[int, Spread]


def curves(evidence: Evidence) -> Chart | None:
    """Return the main validation figure over epochs: the mean over seeds, and the range of the seeds."""
    figure = evidence.figure
    series = {method: _series(evidence.finished(method), figure.key) for method in evidence.by_mean()}
    drawn = {method: own for method, own in series.items() if len(own) > 1}
    if not drawn:
        return None
    styles, first = method_styles(evidence), _shown_first(evidence, list(drawn))
    several = max(spread.n for own in drawn.values() for spread in own.values()) > 1
    caption = (
        "Lines are means over seeds, bands reach from the lowest to the highest seed." if several else ""
    )
    reach = _settled(drawn)
    caption += _left_out(series, drawn, first)
    if reach and any(s.low < reach[0] for own in drawn.values() for s in own.values()):
        caption += " The steep start is below the axis; the table has it."
    # Joint and the method that re-learns are drawn last, on top; the legend keeps the order of the table.
    order = sorted(drawn, key=lambda name: (name in (evidence.baseline, evidence.treatment), name))
    drawing = _curves_drawing({method: drawn[method] for method in order}, styles, figure, reach)
    shown = alt.param(name=SHOWN, value=[method for method in drawn if method in first])
    said = f"Validation {figure.name} of each method over epochs."
    keys = [Key(method, *styles[method], method, method not in first) for method in drawn]
    return Chart(
        "curves",
        f"Validation {figure.name} over epochs",
        caption,
        [Panel("", said, drawing.add_params(shown))],
        legend=keys if len(keys) > 1 else [],
        numbers=_curve_table(drawn, figure),
    )


def _series(runs: Sequence[Run], key: str) -> dict[int, Spread]:
    held: dict[int, list[float]] = {}
    for run in runs:
        for event in run.epochs:
            held.setdefault(int(event["epoch"]), []).append(number(event.get(f"val_{key}")))
    return {epoch: spread for epoch in sorted(held) if (spread := Spread.of(held[epoch]))}


def _curves_drawing(
    drawn: Mapping[str, Series],
    styles: Mapping[str, tuple[str, str]],
    figure: MainFigure,
    reach: Sequence[float] | None,
) -> alt.LayerChart:
    last = max(max(own) for own in drawn.values())
    x = look.x_axis("epoch", "epoch", [0, last], form="d")
    up = partial(look.y_axis, title=f"validation {figure.name}", domain=reach, ticks=7)
    tooltip = look.tips(method="", epoch="d", mean=".3f", low=".3f", high=".3f")
    layers = []
    for method, own in drawn.items():
        color, dash = styles[method]
        rows = [
            {"method": method, "epoch": epoch, "mean": s.mean, "low": s.low, "high": s.high}
            for epoch, s in own.items()
        ]
        shown = f"indexof({SHOWN}, datum.method) >= 0"
        area = look.source(rows).mark_area(color=color, opacity=0.13, clip=True, tooltip=None)
        layers.append(area.encode(x, up("low"), y2="high:Q").transform_filter(shown))
        layers.append(look.curve(rows, x, up("mean"), color, dash, tooltip).transform_filter(shown))
    return look.layered(*layers, height=330)


def _shown_first(evidence: Evidence, drawn: Sequence[str]) -> set[str]:
    """Return the methods whose curves are visible at first: joint, re-learning, and the best others."""
    central = [m for m in (evidence.baseline, evidence.treatment) if m in drawn]
    others = [m for m in drawn if m not in central]  # drawn is in the order of the means
    return {str(m) for m in central} | set(others[: FIRST_SHOWN - len(central)])


def _settled(drawn: Mapping[str, Series]) -> list[float] | None:
    """Return the range of the values after the first tenth of the epochs."""
    last = max(max(own) for own in drawn.values())
    settled = [s for own in drawn.values() for epoch, s in own.items() if epoch >= 0.1 * last]
    return look.padded([value for s in settled for value in (s.low, s.high)])


def _left_out(series: Mapping[str, Series], drawn: Mapping[str, Series], first: set[str]) -> str:
    text = ""
    if short := [method for method in series if method not in drawn]:
        text = f" No curve: {listed(short)} (no validation figure, or a single one)."
    if more := len(drawn) - len(first):
        text += f" {counted(more, 'method')} hidden at first: press a name to show or hide it."
    return text


def _curve_table(drawn: Mapping[str, Series], figure: MainFigure) -> Table:
    epochs = sorted({epoch for own in drawn.values() for epoch in own})
    step = math.ceil(len(epochs) / TABLE_ROWS)
    kept = sorted({*epochs[::step], epochs[-1]})
    none = Spread.of([])
    rows = []
    for epoch in kept:
        means = {method: own.get(epoch, none).mean for method, own in drawn.items()}
        cells = {method: rounded(mean) for method, mean in means.items()}
        rows.append({"epoch": whole(epoch), **cells})
    every = "" if step == 1 else f", every {step} epochs"
    return Table.of(f"Mean validation {figure.name} over seeds{every}.", rows)
