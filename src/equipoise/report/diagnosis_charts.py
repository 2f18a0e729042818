"""The charts of a diagnosis: features in the plane, contributions, and measures side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from equipoise.diagnosis import Diagnosis
from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.features.projections import Projection
from equipoise.report.figures import INK, MUTED, PALETTE, Chart, Key, Panel, axis_title, layout, padded, rule
from equipoise.report.learning_charts import modality_colors
from equipoise.report.state_charts import state_row
from equipoise.report.tables import Cell, Table, amount
from equipoise.report.wording import chart_text, decimal, percent, shortened

SYMBOLS: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
CLASS_KEYS: Final = 12
"""Classes that a legend names at most."""
BAR_ROW: Final = 30
KIND_NAMES: Final = {"t-sne": "t-SNE", "pca": "PCA"}


FIGURES: Final = {
    "alone": "alone",
    "drop_removed": "drop when removed",
    "drop_permuted": "drop when permuted",
    "drop_averaged": "drop when averaged",
    "shapley": "Shapley value",
}


def class_style(index: int) -> tuple[str, str]:
    """Return colour and symbol of a class; no two of the first 36 share both."""
    return PALETTE[index % len(PALETTE)], SYMBOLS[index // len(PALETTE) % len(SYMBOLS)]


def projections(shown: Sequence[Projection]) -> Chart | None:
    """Return modalities in the plane, training beside validation (Wei et al., ECCV 2024, Fig. 3)."""
    if not shown:
        return None
    panels = [panel for projection in shown for panel in _splits(projection)]
    held = sorted({int(c) for p in shown for c in (*p.train_labels, *p.val_labels)})
    names = shown[0].classes
    legend = []
    for index in held if len(held) <= CLASS_KEYS else []:
        color, symbol = class_style(index)
        legend.append(Key(shortened(names[index]), color, "disc" if symbol == "circle" else symbol))
    caption = "A mark a sample, coloured by class. Both splits of a modality share their axes."
    if len(held) > CLASS_KEYS:
        caption += f" The marks of {len(held)} classes are named when pointed at."
    if any(p.kind == "t-sne" for p in shown):
        caption += " t-SNE keeps neighbours together; distances between groups and their sizes mean nothing."
    if any(len(p.train) < p.total_train or len(p.val) < p.total_val for p in shown):
        most = max(shown, key=lambda p: p.total_train)
        caption += (
            f" Shown are {len(most.train):,} of {most.total_train:,} training and {len(most.val):,} of "
            f"{most.total_val:,} validation samples, the classes in proportion."
        )
    return Chart("projections", "Features in the plane", caption, panels, 2, legend)


def _splits(projection: Projection) -> list[Panel]:
    everything = np.concatenate([projection.train, projection.val])
    reach = [padded([float(value) for value in everything[:, axis]], share=0.05) for axis in (0, 1)]
    kind, panels = KIND_NAMES.get(projection.kind, projection.kind), []
    titles = [f"{kind} {axis}" for axis in (1, 2)]
    if projection.explained:
        titles = [
            f"component {axis} ({percent(share, 0)} of the variance)"
            for axis, share in enumerate(projection.explained, 1)
        ]
    for split, points, labels in (
        ("training", projection.train, projection.train_labels),
        ("validation", projection.val, projection.val_labels),
    ):
        frame = layout(
            320,
            x={"title": axis_title(titles[0]), "range": reach[0], "showticklabels": False},
            y={"title": axis_title(titles[1]), "range": reach[1], "showticklabels": False, "showgrid": False},
        )
        said = f"{kind} of the {split} features of {projection.modality}, coloured by class"
        heading = f"{shortened(projection.modality)} \N{MIDDLE DOT} {kind} \N{MIDDLE DOT} {split}"
        figure = {"data": [_cloud(points, labels, projection.classes, split)], "layout": frame}
        panels.append(Panel(heading, said, figure))
    return panels


def _cloud(points: Any, labels: Any, classes: Sequence[str], split: str) -> dict[str, Any]:
    styles = [class_style(int(index)) for index in labels]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [float(value) for value in points[:, 0]],
        "y": [float(value) for value in points[:, 1]],
        "marker": {
            "color": [f"{color}/0.75" for color, _ in styles],
            "symbol": [symbol for _, symbol in styles],
            "size": 6 if len(points) > 300 else 8,
        },
        "customdata": [chart_text(classes[int(index)]) for index in labels],
        "hovertemplate": f"%{{customdata}}<br>{split}<extra></extra>",
    }


def contributions(measured: Contributions) -> Chart | None:
    """Return what each modality contributes: alone, its drops, and its Shapley value, with intervals."""
    own = dict(measured.items())
    drawn = {
        key: label
        for key, label in FIGURES.items()
        if any(math.isfinite(float(getattr(item, key))) for item in own.values())
    }
    if not own or not drawn:
        return None
    colors, panels = modality_colors(list(own)), []
    together = [
        value
        for key in drawn
        if key != "alone"
        for item in own.values()
        for value in (0.0, float(getattr(item, key)), *item.intervals.get(key, ()))
    ]
    for key, label in drawn.items():
        alone = key == "alone"
        values = [0.0, measured.score, *(float(item.alone) for item in own.values())]
        reach = padded(values if alone else together)
        rules = [(measured.score, "dash"), (measured.baseline, "dot")] if alone else [(0.0, "solid")]
        figure = _bar_rows(own, key, colors, _unit(measured.metric, alone), reach, rules)
        said = f"{label} of each modality, {measured.metric} on {measured.split}"
        panels.append(Panel(label, said, figure))
    full, none = (_score(value, measured.metric) for value in (measured.score, measured.baseline))
    caption = (
        f"On the {measured.split} split. The joint model with all modalities scores {full} (dashed), with "
        f"none {none} (dotted). Drops and Shapley values are differences of that score; thin lines are "
        "95 % intervals."
    )
    return Chart(
        "contributions",
        "Contribution of each modality",
        caption,
        panels,
        min(3, len(panels)),
        [Key(shortened(name), colors[name], "band") for name in own],
        _contribution_table(own, drawn, measured.metric),
    )


def _unit(metric: str, alone: bool) -> str:
    return metric if alone else f"difference of {metric}"


def _score(value: float, metric: str) -> str:
    return percent(value) if metric == "accuracy" else decimal(value, 3)


def _bar_rows(
    own: Mapping[str, Any],
    key: str,
    colors: Mapping[str, str],
    unit: str,
    reach: Any,
    rules: Sequence[tuple[float, str]],
) -> dict[str, Any]:
    places = list(range(len(own)))[::-1]
    values = [float(getattr(item, key)) for item in own.values()]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [value if math.isfinite(value) else None for value in values],
        "y": places,
        "width": 0.62,
        "marker": {"color": list(colors.values())},
        "customdata": [chart_text(name) for name in own],
        "hovertemplate": "%{customdata}: %{x:.3f}<extra></extra>",
    }
    traces = [bars]
    for place, item in zip(places, own.values(), strict=True):
        if key in item.intervals:
            low, high = (float(end) for end in item.intervals[key])
            traces.append(whisker(low, high, place))
    shapes = [rule("x", value, dash=dash, below=False) for value, dash in rules if math.isfinite(value)]
    ticks = {"tickvals": places, "ticktext": [chart_text(name, 16) for name in own]}
    percentage = {"tickformat": "~%"} if "accuracy" in unit else {}
    frame = layout(
        BAR_ROW * len(own) + 60,
        x={"title": axis_title(unit), "range": reach, "nticks": 5, "showgrid": True, **percentage},
        y={**ticks, "range": [-0.6, len(own) - 0.4], "showgrid": False, "fixedrange": True},
        shapes=shapes,
    )
    return {"data": traces, "layout": frame}


def whisker(low: float, high: float, place: float, color: str = INK) -> dict[str, Any]:
    """Return an interval as a thin line with ends, which no bar has to contain."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [low, high],
        "y": [place, place],
        "line": {"color": color, "width": 1.5},
        "marker": {"symbol": "line-ns", "size": 7, "line": {"width": 1.5, "color": color}},
        "hovertemplate": "95 % interval: %{x:.3f}<extra></extra>",
    }


def _contribution_table(own: Mapping[str, Any], drawn: Mapping[str, str], metric: str) -> Table:
    rows = []
    for name, item in own.items():
        cells = [Cell(name)]
        for key in drawn:
            value, ends = float(getattr(item, key)), item.intervals.get(key)
            note = " to ".join(decimal(float(end), 3) for end in ends) if ends else ""
            found = amount(value, decimal(value, 3))
            cells.append(Cell(found.text, found.value, note))
        rows.append(cells)
    return Table(f"In {metric}, with 95 % intervals.", ["modality", *drawn.values()], rows)


def measures(diagnoses: Mapping[str, Diagnosis]) -> Chart | None:
    """Return the scores of several measures side by side, each with the interval of its gap.

    Args:
        diagnoses: name of a measure to what it found.
    """
    panels, rows = [], []
    names = list(dict.fromkeys(name for diagnosis in diagnoses.values() for name in diagnosis))
    colors = modality_colors(names)
    for measure, diagnosis in diagnoses.items():
        held = {
            n: s for n, s in diagnosis.items() if math.isfinite(s.train_score) and math.isfinite(s.val_score)
        }
        if not held:
            continue
        figure = state_row(held, colors, measure)
        panels.append(Panel(measure, f"{measure} of training and validation features by modality", figure))
        for name, state in held.items():
            gap = state.train_score - state.val_score
            values = (state.train_score, state.val_score, gap, *(state.interval or (math.nan, math.nan)))
            rows.append([Cell(measure), Cell(name), *(amount(value, decimal(value, 3)) for value in values)])
    if not panels:
        return None
    caption = "Each measure has its own axis. The bar between the two scores is the gap."
    legend = [Key("training", INK, "disc"), Key("validation", INK, "dots")]
    if any(state.interval for diagnosis in diagnoses.values() for state in diagnosis.values()):
        caption += " The thin line below it is the 95 % interval of the gap, drawn from the validation score."
        legend.append(Key("95 % interval of the gap", MUTED))
    head = ["measure", "modality", "training", "validation", "gap", "gap, low", "gap, high"]
    table = Table("Scores by measure, and the 95 % interval of the gap.", head, rows, frozenset({1}))
    columns = min(2, len(panels))
    return Chart("measures", "Other measures of separability", caption, panels, columns, legend, table)
