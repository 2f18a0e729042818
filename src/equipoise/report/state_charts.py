"""The charts of one diagnosis: training and validation score of each modality, with the gap between."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from equipoise.diagnosis import Diagnosis, LearningState
from equipoise.report.figures import (
    INK,
    MUTED,
    ROW,
    Chart,
    Key,
    Panel,
    axis_title,
    layout,
    line,
    padded,
)
from equipoise.report.learning_charts import modality_colors
from equipoise.report.wording import chart_text, decimal


def states(diagnosis: Diagnosis) -> Chart | None:
    """Return the scores of one diagnosis: for each modality training and validation with the gap between."""
    held = {n: s for n, s in diagnosis.items() if math.isfinite(s.train_score) and math.isfinite(s.val_score)}
    if not held:
        return None
    measure = diagnosis.options.metric
    figure = state_row(held, modality_colors(list(held)), measure, strength=True)
    caption = "The bar between the two scores is the gap. The axis does not start at zero."
    legend = [Key("training", INK, "disc"), Key("validation", INK, "dots")]
    if any(state.interval for state in held.values()):
        caption += (
            " The thin line below is the 95 % interval of training minus validation, drawn from the "
            "validation score: where it reaches that score, the gap may be chance."
        )
        legend.append(Key("95 % interval of the gap", INK))
    said = f"{measure} of training and validation features by modality; the table holds the same numbers."
    title = f"{measure[0].upper()}{measure[1:]} by modality"
    return Chart("states", title, caption, [Panel("", said, figure)], legend=legend)


def state_row(
    held: Mapping[str, LearningState], colors: Mapping[str, str], measure: str, *, strength: bool = False
) -> dict[str, Any]:
    """Return a figure of learning states, a row a modality.

    Args:
        held: states whose scores are finite.
        colors: of the modalities.
        measure: title of the axis.
        strength: write the strength beside the gap.
    """
    traces: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    ends: list[float] = []
    for place, (name, state) in enumerate(held.items()):
        height, gap = len(held) - 1 - place, state.train_score - state.val_score
        traces += _dumbbell(name, state, height, colors[name])
        ends += [state.train_score, state.val_score]
        if state.interval:
            ends += [state.val_score + end for end in state.interval]
            traces.append(_gap_interval(name, state, state.interval, height - 0.22))
        said = f"gap {decimal(gap, 3)}"
        if strength:
            pull = state.strength() if state.applied is None else state.applied
            said += f", strength {decimal(pull, 2)}"
        common = {"xref": "paper", "y": height, "yshift": 18, "showarrow": False, "bgcolor": "--paper"}
        name_font, font = {"color": INK}, {"color": MUTED, "size": 12}
        left = {"x": 0, "xanchor": "left", "text": chart_text(name, 26), "font": name_font}
        right = {"x": 1, "xanchor": "right", "text": said, "font": font}
        labels += [{**common, **left}, {**common, **right}]
    across = {"title": axis_title(measure), "showgrid": True, "nticks": 7, "range": padded(ends, share=0.12)}
    frame = layout(
        ROW * len(held) + 64,
        x=across,
        y={"visible": False, "range": [-0.55, len(held) - 0.2], "fixedrange": True},
        annotations=labels,
    )
    return {"data": traces, "layout": frame}


def _gap_interval(
    name: str, state: LearningState, interval: tuple[float, float], height: float
) -> dict[str, Any]:
    """Return the interval of the gap as a line from the validation score, which no score has to lie in."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [state.val_score + end for end in interval],
        "y": [height, height],
        "line": {"color": INK, "width": 1.5},
        "marker": {"symbol": "line-ns", "size": 6, "line": {"width": 1.5, "color": INK}},
        "customdata": [decimal(end, 3) for end in interval],
        "hovertemplate": f"{chart_text(name)}<br>end of the gap's interval: %{{customdata}}<extra></extra>",
    }


def _dumbbell(name: str, state: LearningState, height: int, color: str) -> list[dict[str, Any]]:
    ends = [state.val_score, state.train_score]
    marker = {"color": ["--paper", color], "size": 13, "line": {"color": color, "width": 2.5}}
    return [
        line(ends, [height, height], f"{color}/0.45", width=5, hoverinfo="skip"),
        {
            "type": "scatter",
            "mode": "markers",
            "x": ends,
            "y": [height, height],
            "marker": marker,
            "customdata": ["validation", "training"],
            "hovertemplate": f"{chart_text(name)}<br>%{{customdata}}: %{{x:.3f}}<extra></extra>",
        },
    ]
