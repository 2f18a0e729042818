"""The charts of what a trained model can do: its confusions, its encoders, and the strength per layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from equipoise.report.figures import INK, MUTED, PALETTE, Chart, Key, Panel, axis_title, layout, padded, rule
from equipoise.report.tables import Cell, Table, amount
from equipoise.report.wording import chart_text, counted, percent, shortened

CELL_NUMBERS: Final = 12
"""Classes up to which the cells of a confusion matrix hold numbers."""
TABLE_CLASSES: Final = 40
PAIRS: Final = 6
METHOD_KEYS: Final = 12
SPOTS: Final = (9.0, 26.0)
"""Diameter of the spots of the lowest and the highest multimodal accuracy, in pixels."""


@dataclass(frozen=True)
class QualityPoint:
    """One run in the picture of encoder quality.

    Attributes:
        method: its method.
        seed: its seed.
        encoders: modality to the accuracy of its encoder under a new classifier.
        accuracy: of the multimodal model.
    """

    method: str
    seed: int
    encoders: Mapping[str, float]
    accuracy: float


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
    totals = table.sum(axis=1, keepdims=True)
    shares = np.divide(table, totals, out=np.zeros_like(table), where=totals > 0)
    size, places = len(classes), list(range(len(classes)))
    names = [chart_text(str(name), 14 if size > CELL_NUMBERS else 18) for name in classes]
    heat = {
        "type": "heatmap",
        "x": places,
        "y": places,
        "z": shares.tolist(),
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "--c2/0"], [1, "--c2/1"]],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "customdata": [
            [
                f"{chart_text(str(classes[row]))} taken for {chart_text(str(classes[column]))}: "
                f"{int(table[row, column]):,} of {int(totals[row, 0]):,}"
                for column in places
            ]
            for row in places
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    step = math.ceil(size / TABLE_CLASSES)
    ticks = {"tickvals": places[::step], "ticktext": names[::step], "showgrid": False}
    edge = [-0.5, size - 0.5]
    frame = layout(
        min(720, max(240, 34 * size + 130) if size <= CELL_NUMBERS else 14 * size + 170),
        x={**ticks, "title": axis_title("predicted class"), "range": edge, "tickangle": -90},
        y={**ticks, "title": axis_title("true class"), "range": edge[::-1]},
        annotations=_cell_numbers(shares) if size <= CELL_NUMBERS else [],
    )
    accuracy = float(np.trace(table) / table.sum())
    caption = (
        f"Per cent of the samples of each true class (row) by the class that was predicted, {split} split: "
        f"{counted(int(table.sum()), 'sample')}, accuracy {percent(accuracy)}."
    )
    said = f"Confusion matrix of {size} classes on the {split} split; the accuracy is {percent(accuracy)}."
    figure = {"data": [heat], "layout": frame}
    return Chart(
        f"confusion-{split}",
        f"Confusion matrix, {split}",
        caption,
        [Panel("", said, figure)],
        2,  # half the page's width, so that cells are about square
        numbers=_confusion_table(table, classes) if size <= TABLE_CLASSES else None,
    )


def _cell_numbers(shares: Any) -> list[dict[str, Any]]:
    """Write the shares into the cells: in the page's colour where the cell is dark."""
    return [
        {
            "x": column,
            "y": row,
            "text": f"{100 * share:.0f}",
            "showarrow": False,
            "font": {"color": "--paper" if share > 0.6 else INK, "size": 12},
        }
        for row, line in enumerate(shares)
        for column, share in enumerate(line)
        if share > 0
    ]


def _confusion_table(table: Any, classes: Sequence[str]) -> Table:
    rows = [
        [Cell(str(classes[row])), *(Cell(f"{int(count):,}", float(count)) for count in line)]
        for row, line in enumerate(table)
    ]
    return Table("Samples by true class (row) and predicted class.", ["true class", *map(str, classes)], rows)


def encoder_quality(
    points: Sequence[QualityPoint], alone: Mapping[str, float], split: str = "validation"
) -> Chart | None:
    """Return how good each encoder is under a new classifier (Wei et al., ECCV 2024, Fig. 1b and c).

    A spot a run, a panel a pair of modalities; the spot's size is the multimodal accuracy.

    Args:
        points: runs.
        alone: accuracy of each modality trained alone.
        split: what the accuracies were measured on.
    """
    names = list(dict.fromkeys(name for point in points for name in point.encoders))
    pairs = list(itertools.combinations(names, 2))
    methods = list(dict.fromkeys(point.method for point in points))
    panels = []
    for pair in pairs[:PAIRS]:
        held = [p for p in points if all(math.isfinite(p.encoders.get(name, math.nan)) for name in pair)]
        if held:
            figure = _pair(held, pair, alone, _styles(methods), _scale(points))
            said = f"accuracy of the encoders of {pair[0]} and {pair[1]} under a new classifier, by method"
            heading = " and ".join(map(shortened, pair)) if len(pairs) > 1 else ""
            panels.append(Panel(heading, said, figure))
    if not panels:
        return None
    caption = f"Accuracy on the {split} split of a new classifier on each frozen encoder, a spot a run."
    found = [point.accuracy for point in points if math.isfinite(point.accuracy)]
    if found:
        caption += (
            f" The larger the spot, the higher the multimodal accuracy: from "
            f"{percent(min(found))} (smallest) to {percent(max(found))} (largest)."
        )
    caption += " Dashed: the modality trained alone." if alone else ""
    caption += f" The first {PAIRS} of {len(pairs)} pairs are drawn." if len(pairs) > PAIRS else ""
    legend = [
        Key(shortened(method), color, "disc" if symbol == "circle" else symbol)
        for method, (color, symbol) in _styles(methods).items()
    ]
    legend = legend[:METHOD_KEYS] if len(methods) <= METHOD_KEYS else []
    legend += [Key("trained alone", MUTED, "rule")] if alone else []
    table = _quality_table(points, names, alone)
    columns = min(3, max(2, len(panels)))
    return Chart("encoder-quality", "Quality of the encoders", caption, panels, columns, legend, table)


def _styles(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    symbols = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
    return {
        method: (PALETTE[place % len(PALETTE)], symbols[place // len(PALETTE) % len(symbols)])
        for place, method in enumerate(methods)
    }


def _scale(points: Sequence[QualityPoint]) -> tuple[float, float]:
    found = [point.accuracy for point in points if math.isfinite(point.accuracy)]
    return (min(found), max(found)) if found else (0.0, 1.0)


def spot_size(accuracy: float, scale: tuple[float, float]) -> float:
    """Return the diameter of a spot in pixels: its area grows evenly with the accuracy."""
    if not math.isfinite(accuracy) or scale[1] <= scale[0]:
        return SPOTS[0] if not math.isfinite(accuracy) else sum(SPOTS) / 2
    share = (accuracy - scale[0]) / (scale[1] - scale[0])
    return math.sqrt(SPOTS[0] ** 2 + share * (SPOTS[1] ** 2 - SPOTS[0] ** 2))


def _pair(
    held: Sequence[QualityPoint],
    pair: tuple[str, str],
    alone: Mapping[str, float],
    styles: Mapping[str, tuple[str, str]],
    scale: tuple[float, float],
) -> dict[str, Any]:
    traces = []
    for method, (color, symbol) in styles.items():
        # Small spots lie on top of large ones.
        own = sorted((p for p in held if p.method == method), key=lambda p: -p.accuracy)
        texts = [
            f"{chart_text(p.method)}, seed {p.seed}<br>multimodal {percent(p.accuracy)}".replace("%", "&#37;")
            for p in own
        ]
        hover = "".join(f"<br>{chart_text(n)} %{{{axis}:.1%}}" for n, axis in zip(pair, "xy", strict=True))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [p.encoders[pair[0]] for p in own],
                "y": [p.encoders[pair[1]] for p in own],
                "marker": {
                    "color": f"{color}/0.55",
                    "symbol": symbol,
                    "size": [spot_size(p.accuracy, scale) for p in own],
                    "line": {"color": color, "width": 1},
                },
                "customdata": texts,
                "hovertemplate": f"%{{customdata}}{hover}<extra></extra>",
            }
        )
    ends = [[*(p.encoders[name] for p in held), alone.get(name, math.nan)] for name in pair]
    axes = [
        {
            "title": axis_title(f"{chart_text(name, 24)}, accuracy"),
            "tickformat": "~%",
            "nticks": 6,
            "range": reach,
        }
        for name, reach in zip(pair, (padded(own, share=0.15) for own in ends), strict=True)
    ]
    rules = [rule(axis, alone[name]) for axis, name in zip("xy", pair, strict=True) if name in alone]
    return {"data": traces, "layout": layout(360, x={**axes[0], "showgrid": True}, y=axes[1], shapes=rules)}


def _quality_table(points: Sequence[QualityPoint], names: Sequence[str], alone: Mapping[str, float]) -> Table:
    rows = [
        [
            Cell(p.method),
            Cell(str(p.seed), float(p.seed)),
            *(amount(p.encoders.get(n), percent(p.encoders.get(n, math.nan))) for n in names),
            amount(p.accuracy, percent(p.accuracy)),
        ]
        for p in points
    ]
    if alone:
        own = [amount(alone.get(name), percent(alone.get(name, math.nan))) for name in names]
        rows.append([Cell("trained alone"), amount(None, ""), *own, amount(None, "")])
    head = ["method", "seed", *(f"encoder of {name}" for name in names), "multimodal"]
    return Table("Accuracies of a new classifier on each encoder, and of the model.", head, rows)
