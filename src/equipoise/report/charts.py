"""The charts of a comparison that speak of methods: the main figure by method, and over epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.experiments.compare.comparison import shown_name
from equipoise.report.evidence import Evidence
from equipoise.report.figures import (
    DASHES,
    INK,
    LOW_ROW,
    MANY,
    MUTED,
    PALETTE,
    ROW,
    Chart,
    Key,
    Panel,
    axis_title,
    band,
    layout,
    line,
    padded,
    rule,
)
from equipoise.report.main_figure import MainFigure
from equipoise.report.records import Run
from equipoise.report.tables import Cell, Table, amount
from equipoise.report.wording import Spread, chart_text, counted, listed, number, shortened

SHOWN = 6
"""Curves that are visible at first; more can be put on by their legend."""
TABLE_ROWS = 40
NAME = 34
"""Letters of a name over a row of dots."""


def method_styles(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """Return colour and dash of each method: joint in ink, the one that re-learns in the accent.

    The best of the others get the distinct colours: theirs are the curves that are visible at first.
    """
    others = [m for m in evidence.by_mean() if m not in (evidence.baseline, evidence.treatment)]
    colors = PALETTE[1:]
    styles = {
        method: (colors[place % len(colors)], DASHES[place // len(colors) % len(DASHES)])
        for place, method in enumerate(others)
    }
    if evidence.baseline:
        styles[evidence.baseline] = (INK, "solid")
    if evidence.treatment:
        styles[evidence.treatment] = (PALETTE[0], "solid")
    return styles


def accuracy(evidence: Evidence) -> Chart | None:
    """Return the main test figure of each method, accuracy of classes: a dot a seed, mean and spread."""
    values = _seed_accuracies(evidence)
    if not any(math.isfinite(value) for own in values.values() for _, value in own):
        return None
    base = number(evidence.methods[evidence.baseline]["mean"]) if evidence.baseline else math.nan
    figure = _accuracy_figure(evidence, values, base)
    spread = "mean \N{PLUS-MINUS SIGN} one standard deviation"
    legend = [Key("one seed", MUTED, "dots"), Key(spread, MUTED, "bar")]
    legend += [Key("mean of joint", MUTED, "rule")] if math.isfinite(base) else []
    caption = "Methods in the order of the table. The axis does not start at zero."
    title = f"Test {evidence.figure.name} by method"
    said = f"{title}; the results table holds the same numbers."
    return Chart("accuracy", title, caption, [Panel("", said, figure)], legend=legend)


def _seed_accuracies(evidence: Evidence) -> dict[str, list[tuple[int, float]]]:
    rows = evidence.comparison.results
    finished = rows[rows["status"] == "ok"]
    values: dict[str, list[tuple[int, float]]] = {method: [] for method in evidence.by_mean()}
    for row in finished.to_dict("records"):
        values[str(row["method"])].append((int(row["seed"]), number(row[f"test_{evidence.figure.key}"])))
    return values


def _accuracy_figure(
    evidence: Evidence, values: Mapping[str, Sequence[tuple[int, float]]], base: float
) -> dict[str, Any]:
    styles, traces, labels, reach = method_styles(evidence), [], [], []
    for place, (method, own) in enumerate(values.items()):
        height = len(values) - 1 - place
        mean, std = (number(evidence.methods[method][key]) for key in ("mean", "std"))
        central = method in (evidence.baseline, evidence.treatment)
        # Five colours over and over would tell nothing but suggest a grouping.
        color = styles[method][0] if central or len(values) <= MANY else MUTED
        traces += _dots(method, own, mean, std, height, color, evidence.figure)
        name = shown_name(shortened(method, NAME), evidence.methods[method])
        labels += _row_labels(name, mean, std, height, evidence.figure)
        reach += [value for _, value in own] + [mean - std, mean + std]
    figure = evidence.figure
    across = {"title": axis_title(f"test {figure.name}"), "tickformat": figure.ticks, "showgrid": True}
    across["nticks"] = 7
    frame = layout(
        (ROW if len(values) <= MANY else LOW_ROW) * len(values) + 56,
        x={**across, "range": padded(reach)},
        y={"visible": False, "range": [-0.45, len(values) - 0.2], "fixedrange": True},
        annotations=labels,
        shapes=[rule("x", base, dash="dot", below=False)] if math.isfinite(base) else [],
    )
    return {"data": traces, "layout": frame}


def _dots(
    method: str,
    own: Sequence[tuple[int, float]],
    mean: float,
    std: float,
    height: int,
    color: str,
    figure: MainFigure,
) -> list[dict[str, Any]]:
    name = chart_text(method)
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [value if math.isfinite(value) else None for _, value in own],
        "y": [height] * len(own),
        "marker": {"color": f"{color}/0.45", "size": 10, "line": {"width": 1, "color": color}},
        "customdata": [seed for seed, _ in own],
        "hovertemplate": f"{name}<br>seed %{{customdata}}: %{{x:{figure.hover}}}<extra></extra>",
    }
    if not math.isfinite(mean):
        return [dots]
    bar = {
        "type": "scatter",
        "mode": "markers",
        "x": [mean],
        "y": [height],
        "marker": {"symbol": "line-ns", "size": 15, "line": {"width": 3, "color": color}},
        "hovertemplate": f"{name}<br>mean: %{{x:{figure.hover}}}<extra></extra>",
    }
    if math.isfinite(std):
        bar["error_x"] = {"type": "data", "array": [std], "color": color, "thickness": 2, "width": 0}
    return [bar, dots]


def _row_labels(name: str, mean: float, std: float, height: int, figure: MainFigure) -> list[dict[str, Any]]:
    """Write the name over the row's left end and its numbers over the right one, where nothing cuts them."""
    spread = f" \N{PLUS-MINUS SIGN} {figure.spread(std)}" if math.isfinite(std) else ""
    numbers = f"{figure.spread(mean)}{spread}" if math.isfinite(mean) else "no finished run"
    common = {"xref": "paper", "y": height, "yshift": 17, "showarrow": False, "bgcolor": "--paper"}
    return [
        {**common, "x": 0, "xanchor": "left", "text": chart_text(name, None), "font": {"color": INK}},
        {**common, "x": 1, "xanchor": "right", "text": numbers, "font": {"color": MUTED, "size": 12}},
    ]


def curves(evidence: Evidence) -> Chart | None:
    """Return the main validation figure over epochs: the mean over seeds, and the range of the seeds."""
    figure = evidence.figure
    series = {method: _series(evidence.finished(method), figure.key) for method in evidence.by_mean()}
    drawn = {method: own for method, own in series.items() if len(own) > 1}
    if not drawn:
        return None
    styles, first = method_styles(evidence), _shown_first(evidence, list(drawn))
    traces: list[dict[str, Any]] = []
    legend = []
    # The methods in question are drawn last, on top; the legend keeps the order of the table.
    for method in sorted(drawn, key=lambda name: (name in (evidence.baseline, evidence.treatment), name)):
        own, (color, dash), hidden = drawn[method], styles[method], method not in first
        pair = _curve(method, own, color, dash, figure)
        legend.append((method, Key(method, color, _mark(dash), (len(traces), len(traces) + 1), hidden)))
        traces += [{**trace, "visible": not hidden} for trace in pair]
    order = list(drawn)
    frame = _curve_layout(drawn, figure)
    drawing = {"data": traces, "layout": frame}
    several = max(spread.n for own in drawn.values() for spread in own.values()) > 1
    caption = (
        "Lines are means over seeds, bands reach from the lowest to the highest seed." if several else ""
    )
    caption += _left_out(series, drawn, first) + _cut_start(
        (frame["yaxis"]["range"] or [-math.inf])[0], drawn
    )
    said = f"Validation {figure.name} of each method over epochs."
    keys = [key for _, key in sorted(legend, key=lambda entry: order.index(entry[0]))]
    title = f"Validation {figure.name} over epochs"
    keys = keys if len(keys) > 1 else []
    return Chart(
        "curves", title, caption, [Panel("", said, drawing)], legend=keys, numbers=_curve_table(drawn, figure)
    )


def _series(runs: Sequence[Run], key: str) -> dict[int, Spread]:
    held: dict[int, list[float]] = {}
    for run in runs:
        for event in run.epochs:
            held.setdefault(int(event["epoch"]), []).append(number(event.get(f"val_{key}")))
    return {epoch: spread for epoch in sorted(held) if (spread := Spread.of(held[epoch]))}


def _curve(
    method: str, own: Mapping[int, Spread], color: str, dash: str, figure: MainFigure
) -> list[dict[str, Any]]:
    epochs, spreads = list(own), list(own.values())
    hover = f"{chart_text(method)}<br>epoch %{{x}}: %{{y:{figure.hover}}}<extra></extra>"
    return [
        band(epochs, [s.low for s in spreads], [s.high for s in spreads], f"{color}/0.13"),
        line(epochs, [s.mean for s in spreads], color, dash=dash, hovertemplate=hover),
    ]


def _mark(dash: str) -> str:
    return "line" if dash == "solid" else dash if dash.isalpha() else "dot"


def _shown_first(evidence: Evidence, drawn: Sequence[str]) -> set[str]:
    """Return the methods whose curves are visible at first: the two in question and the best others."""
    by_accuracy = sorted(drawn, key=lambda m: -_or_least(number(evidence.methods[m]["mean"])))
    central = [m for m in (evidence.baseline, evidence.treatment) if m in drawn]
    return set(
        [str(m) for m in central] + [m for m in by_accuracy if m not in central][: SHOWN - len(central)]
    )


def _or_least(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _curve_layout(drawn: Mapping[str, Mapping[int, Spread]], figure: MainFigure) -> dict[str, Any]:
    last = max(max(own) for own in drawn.values())
    settled = [s for own in drawn.values() for epoch, s in own.items() if epoch >= 0.1 * last]
    return layout(
        380,
        x={"title": axis_title("epoch"), "rangemode": "tozero", "nticks": 8},
        y={
            "title": axis_title(f"validation {figure.name}"),
            "tickformat": figure.ticks,
            "nticks": 7,
            "range": padded([value for s in settled for value in (s.low, s.high)]),
        },
    )


def _cut_start(bottom: float, drawn: Mapping[str, Mapping[int, Spread]]) -> str:
    if any(s.low < bottom for own in drawn.values() for s in own.values()):
        return " The steep start lies below the axis; the table has it."
    return ""


def _left_out(
    series: Mapping[str, Mapping[int, Spread]], drawn: Mapping[str, Mapping[int, Spread]], first: set[str]
) -> str:
    text = ""
    if short := [method for method in series if method not in drawn]:
        text = f" No curve: {listed(short)} (no validation figure, or a single one)."
    if more := len(drawn) - len(first):
        text += f" {counted(more, 'method')} hidden at first: press a name to show or hide it."
    return text


def _curve_table(drawn: Mapping[str, Mapping[int, Spread]], figure: MainFigure) -> Table:
    epochs = sorted({epoch for own in drawn.values() for epoch in own})
    step = math.ceil(len(epochs) / TABLE_ROWS)
    kept = sorted({*epochs[::step], epochs[-1]})
    none = Spread.of([])
    rows = []
    for epoch in kept:
        means = [own.get(epoch, none).mean for own in drawn.values()]
        rows.append([Cell(str(epoch), float(epoch)), *(amount(mean, figure.shown(mean)) for mean in means)])
    every = "" if step == 1 else f", every {step} epochs"
    return Table(f"Mean validation {figure.name} over seeds{every}.", ["epoch", *drawn], rows)
