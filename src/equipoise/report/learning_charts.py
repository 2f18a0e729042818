"""The charts that speak of modalities: separability over epochs, strength of re-learning, one diagnosis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.report.figures import (
    INK,
    MUTED,
    PALETTE,
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
from equipoise.report.learning import (
    RELEARNING,
    Point,
    Reading,
    metric,
    modalities,
    relearning_epochs,
    trajectory,
)
from equipoise.report.tables import Cell, Table, amount
from equipoise.report.wording import Spread, chart_text, decimal, shortened

PANEL_HEIGHT = 230


def modality_colors(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each modality."""
    return {name: PALETTE[1:][place % (len(PALETTE) - 1)] for place, name in enumerate(names)}


def scores(read: Mapping[str, Sequence[Reading]]) -> Chart | None:
    """Return the scores of both splits over epochs, a row a modality and a column a method.

    Args:
        read: method to its readings.
    """
    names = list(dict.fromkeys(name for own in read.values() for name in modalities(own)))
    lines = {(n, m): points for n in names for m, own in read.items() if (points := trajectory(own, n))}
    ends = [v for points in lines.values() for p in points for s in (p.train, p.val) for v in (s.low, s.high)]
    if not padded(ends):
        return None
    colors = modality_colors(names)
    measure = metric([reading for own in read.values() for reading in own])
    last = max(p.epoch for points in lines.values() for p in points)
    panels = []
    for (name, method), points in lines.items():
        marked = relearning_epochs(read[method])
        figure = {
            "data": _score_traces(
                name, points, [r for r in read[method] if r.modality == name], colors[name]
            ),
            "layout": _score_layout(measure, padded(ends), last, marked),
        }
        said = f"{measure} of training and validation features of {name} over epochs, {method}"
        panels.append(Panel(f"{shortened(name)} \N{MIDDLE DOT} {shortened(method)}", said, figure))
    several = max(p.train.n for points in lines.values() for p in points) > 1
    caption = "Thick lines are means over seeds, thin ones single seeds. " if several else ""
    caption += "The tinted area between training and validation is the gap."
    legend = [Key("training", INK), Key("validation", INK, "dot"), Key("gap", INK, "tint")]
    if any(relearning_epochs(own) for own in read.values()):
        legend.append(Key("re-learning", MUTED, "rule"))
        caption += " At a re-learning the lines step: measured right before, and right after."
    title = f"{measure[0].upper()}{measure[1:]} of training and validation features"
    columns = len(read) if len(panels) == len(names) * len(read) else 2
    return Chart("learning", title, caption, panels, columns, legend, _score_table(lines, measure))


def _score_traces(
    name: str, points: Sequence[Point], own: Sequence[Reading], color: str
) -> list[dict[str, Any]]:
    epochs = [point.epoch for point in points]
    train, val = [point.train.mean for point in points], [point.val.mean for point in points]
    traces = [band(epochs, val, train, f"{color}/0.16")]
    traces += _seed_traces(name, own, color)
    for split, dash, values in (("training", "solid", train), ("validation", "dot", val)):
        hover = f"{chart_text(name)}, {split}<br>epoch %{{x}}: %{{y:.3f}}<extra></extra>"
        mode = "lines+markers" if len(points) < 2 else "lines"
        traces.append(line(epochs, values, color, dash=dash, width=2.5, hovertemplate=hover, mode=mode))
    return traces


def _seed_traces(name: str, own: Sequence[Reading], color: str) -> list[dict[str, Any]]:
    """Return the single seeds, all in one line a split with gaps in between: many traces draw slowly."""
    seeds = list(dict.fromkeys(reading.seed for reading in own))
    if len(seeds) < 2:
        return []
    singles = [trajectory([reading for reading in own if reading.seed == seed], name) for seed in seeds]
    x = [entry for points in singles for entry in [*(point.epoch for point in points), None]]
    traces = []
    for split, dash in (("train", "solid"), ("val", "dot")):
        y = [v for points in singles for v in [*(getattr(p, split).mean for p in points), math.nan]]
        traces.append(line(x, y, f"{color}/0.4", dash=dash, width=1, hoverinfo="skip"))
    return traces


def _score_layout(measure: str, reach: Any, last: int, marked: Sequence[int]) -> dict[str, Any]:
    return layout(
        PANEL_HEIGHT,
        x={"title": axis_title("epoch"), "range": [-0.02 * max(last, 1), 1.02 * max(last, 1)], "nticks": 8},
        y={"title": axis_title(measure), "range": reach, "nticks": 6},
        shapes=[rule("x", epoch) for epoch in marked],
    )


def _score_table(lines: Mapping[tuple[str, str], Sequence[Point]], measure: str) -> Table:
    rows = [
        [
            Cell(method),
            Cell(name),
            Cell(str(point.epoch), float(point.epoch)),
            Cell("before re-learning" if point.event == RELEARNING else "diagnosis"),
            *(amount(s.mean, decimal(s.mean, 3)) for s in (point.train, point.val, point.gap)),
        ]
        for (name, method), points in lines.items()
        for point in points
    ]
    head = ["method", "modality", "epoch", "event", f"training {measure}", f"validation {measure}", "gap"]
    return Table("Means over seeds.", head, rows, frozenset({1, 3}))


def strengths(read: Sequence[Reading], method: str) -> Chart | None:
    """Return the strength applied to each modality at each re-learning: the mean, and a dot a seed."""
    pulls = [reading for reading in read if reading.event == RELEARNING and math.isfinite(reading.applied)]
    if not pulls:
        return None
    names, epochs = modalities(pulls), relearning_epochs(pulls)
    colors, width = modality_colors(modalities(read)), 0.8 / len(names)
    traces = []
    for place, name in enumerate(names):
        offset = (place - (len(names) - 1) / 2) * width
        traces += _bars(name, [r for r in pulls if r.modality == name], epochs, offset, width, colors[name])
    top = max(reading.applied for reading in pulls)
    figure = {
        "data": traces,
        "layout": layout(
            280,
            x={
                "title": axis_title("epoch of the re-learning"),
                "tickvals": list(range(len(epochs))),
                "ticktext": [str(epoch) for epoch in epochs],
                "range": [-0.55, len(epochs) - 0.45],
            },
            y={"title": axis_title("strength"), "range": [0, min(1.02, max(0.1, 1.12 * top))], "nticks": 6},
            bargap=0,
        ),
    }
    caption = f"{method}: 0 leaves the weights as they are, 1 restores the initial ones."
    if len({reading.seed for reading in pulls}) > 1:
        caption += " Bars are means over seeds, dots single seeds."
    legend = [Key(name, colors[name], "band") for name in names]
    said = "Strength of re-learning by modality at each re-learning."
    title = "Strength of re-learning"
    numbers = _strength_table(pulls, names, epochs)
    return Chart("strength", title, caption, [Panel("", said, figure)], legend=legend, numbers=numbers)


def _bars(
    name: str, own: Sequence[Reading], epochs: Sequence[int], offset: float, width: float, color: str
) -> list[dict[str, Any]]:
    label = chart_text(name)
    means = [Spread.of(r.applied for r in own if r.epoch == epoch).mean for epoch in epochs]
    several = len({reading.seed for reading in own}) > 1
    bars = {
        "type": "bar",
        "x": [place + offset for place in range(len(epochs))],
        "y": [mean if math.isfinite(mean) else None for mean in means],
        "width": [0.9 * width] * len(epochs),
        "marker": {"color": color},
        "customdata": list(epochs),
        "hovertemplate": f"{label}, epoch %{{customdata}}<br>mean strength %{{y:.3f}}<extra></extra>",
    }
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [epochs.index(reading.epoch) + offset for reading in own],
        "y": [reading.applied for reading in own],
        "marker": {"color": "--paper", "size": 6, "line": {"color": INK, "width": 1}},
        "customdata": [reading.seed for reading in own],
        "hovertemplate": f"{label}, seed %{{customdata}}<br>strength %{{y:.3f}}<extra></extra>",
    }
    return [bars, dots] if several else [bars]


def _strength_table(pulls: Sequence[Reading], names: Sequence[str], epochs: Sequence[int]) -> Table:
    rows = []
    for name in names:
        spreads = [Spread.of(r.applied for r in pulls if (r.modality, r.epoch) == (name, e)) for e in epochs]
        cells = [
            Cell(
                decimal(s.mean, 3), s.mean, f"{decimal(s.low, 3)} to {decimal(s.high, 3)}" if s.n > 1 else ""
            )
            if s
            else amount(None, "")
            for s in spreads
        ]
        rows.append([Cell(name), *cells])
    return Table(
        "Mean strength, and its range over seeds.", ["modality", *(f"epoch {e}" for e in epochs)], rows
    )
