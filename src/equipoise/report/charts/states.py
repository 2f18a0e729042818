"""The charts of diagnoses at one moment: training and validation score by modality, and the gap between."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import altair as alt

from equipoise.decimals import MISSING
from equipoise.diagnosis import Diagnosis, LearningState
from equipoise.report.charts import look
from equipoise.report.charts.chart import Chart, Key, Panel
from equipoise.report.text.detail_tables import strength_of
from equipoise.report.text.tables import Cell, Table, rounded
from equipoise.report.text.wording import between, decimal, shortened

States = Mapping[str, LearningState]
LEGEND = (Key("training", look.INK, "disc"), Key("validation", look.INK, "dots"))
INTERVAL = Key("95 % interval of the gap", look.INK)


def states(diagnosis: Diagnosis) -> Chart | None:
    """Return the scores of one diagnosis: for each modality training and validation with the gap between."""
    held = _measured(diagnosis)
    if not held:
        return None
    measure = diagnosis.options.metric
    drawing = state_rows(held, look.modality_colors(list(held)), measure, strength=True)
    caption, legend = "The bar between the two scores is the gap. The axis does not start at zero.", [*LEGEND]
    if any(state.interval for state in held.values()):
        caption += (
            " The thin line below is the 95 % interval of training minus validation, drawn from the "
            "validation score: where it reaches that score, the gap may be chance."
        )
        legend.append(INTERVAL)
    said = f"{measure} of training and validation features by modality; the table holds the same numbers."
    title = f"{measure[0].upper()}{measure[1:]} by modality"
    return Chart("states", title, caption, [Panel("", said, drawing)], legend=legend)


def measures(diagnoses: Mapping[str, Diagnosis]) -> Chart | None:
    """Return the scores of several measures side by side, each with the interval of its gap."""
    panels, rows = [], []
    names = list(dict.fromkeys(name for diagnosis in diagnoses.values() for name in diagnosis))
    colors = look.modality_colors(names)
    for measure, diagnosis in diagnoses.items():
        held = _measured(diagnosis)
        if not held:
            continue
        said = f"{measure} of training and validation features by modality"
        panels.append(Panel(measure, said, state_rows(held, colors, measure)))
        for name, state in held.items():
            rows.append(
                {
                    "measure": Cell(measure),
                    "modality": Cell(name),
                    "training": rounded(state.train_score),
                    "validation": rounded(state.val_score),
                    "gap": rounded(state.train_score - state.val_score),
                    "95 % interval": Cell(between(*state.interval) if state.interval else MISSING),
                }
            )
    if not panels:
        return None
    caption, legend = "Each measure has its own axis. The bar between the two scores is the gap.", [*LEGEND]
    if any(state.interval for diagnosis in diagnoses.values() for state in diagnosis.values()):
        caption += " The thin line below it is the 95 % interval of the gap, drawn from the validation score."
        legend.append(INTERVAL)
    table = Table.of("Scores by measure, and the 95 % interval of the gap.", rows, ("modality",))
    columns = min(2, len(panels))
    return Chart("measures", "Other measures of separability", caption, panels, columns, legend, table)


def _measured(diagnosis: Diagnosis) -> States:
    """Return the states whose scores are finite."""
    return {n: s for n, s in diagnosis.items() if math.isfinite(s.train_score) and math.isfinite(s.val_score)}


def state_rows(
    held: States, colors: Mapping[str, str], measure: str, *, strength: bool = False
) -> alt.LayerChart:
    """Return a drawing of learning states with finite scores, a row a modality; `measure` titles the axis."""
    rows = [
        _row(name, state, len(held) - 1 - place, strength) for place, (name, state) in enumerate(held.items())
    ]
    reach = [row[key] for row in rows for key in ("training", "validation", "low", "high") if key in row]
    across = partial(look.x_axis, title=measure, domain=look.padded(reach, share=0.12), ticks=7, grid=True)
    y, bars = look.place_axis(len(rows), bottom=0.55), look.source(rows)
    own = {name: colors[name] for name in held}
    color, stroke = look.by_color("modality", own), look.by_color("modality", own, alt.Stroke)
    point = {"filled": True, "size": 140, "strokeWidth": 2.5, "opacity": 1}
    spans = [row for row in rows if "low" in row]
    below = look.place_axis(len(rows), 0.55, "below")
    ends = look.tips(modality="", span=("", "gap, 95 % interval"))
    gap = bars.mark_rule(strokeWidth=5, opacity=0.45, tooltip=None)
    return look.layered(
        gap.encode(across("validation"), alt.X2("training:Q"), y, color),
        bars.mark_point(color=look.PAPER, **point).encode(
            across("validation"), y, stroke, tooltip=look.tips(modality="", validation=".3f")
        ),
        bars.mark_point(**point).encode(
            across("training"), y, color, stroke, tooltip=look.tips(modality="", training=".3f")
        ),
        *(look.whiskers(spans, across, below, ends, 7) if spans else ()),
        *look.row_labels(rows, y),
        height=look.ROW * (len(rows) + 0.35),
    )


def _row(name: str, state: LearningState, place: int, strength: bool) -> dict[str, Any]:
    note = f"gap {decimal(state.train_score - state.val_score, 3)}"
    if strength:
        note += f", strength {decimal(strength_of(state), 2)}"
    row = {"modality": name, "name": shortened(name, 26), "note": note, "place": place}
    row |= {"training": state.train_score, "validation": state.val_score}
    if state.interval:  # of the gap; drawn from the validation score
        low, high = state.interval
        row["span"] = between(low, high)
        row |= {"low": state.val_score + low, "high": state.val_score + high, "below": place - 0.3}
    return row
