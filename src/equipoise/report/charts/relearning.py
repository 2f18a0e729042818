"""The charts of diagnoses and re-learning over epochs: separability, and strength of re-learning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import altair as alt

from equipoise.report.charts import look
from equipoise.report.charts.chart import Chart, Key, Panel
from equipoise.report.text.learning import (
    RELEARNING,
    Point,
    Reading,
    by_one_ruler,
    metric,
    modalities,
    relearning_epochs,
    trajectory,
)
from equipoise.report.text.tables import Cell, Table, rounded, whole
from equipoise.report.text.wording import Spread, between

SPLITS = {"train": ("training", "line"), "val": ("validation", "dot")}
GAP = Key("gap", look.INK, "tint")
GAP_CAPTION = "The tinted area between training and validation is the gap."
MOMENT = Key("re-learning", look.MUTED, "rule")
MOMENT_CAPTION = " At a re-learning the lines step: measured right before, and right after."
OTHER_RULER = " Re-learning measured gaps with other options than the diagnoses; these are left out."


def scores(read: Mapping[str, Sequence[Reading]]) -> Chart | None:
    """Return the scores of both splits over epochs, a row a modality and a column a method.

    What was measured by another ruler than the diagnoses is left out: their lines would join what cannot be
    compared.
    """
    moments = {method: relearning_epochs(own) for method, own in read.items()}
    every = [reading for own in read.values() for reading in own]
    read = {method: by_one_ruler(own) for method, own in read.items()}
    names = list(dict.fromkeys(name for own in read.values() for name in modalities(own)))
    lines = {(n, m): points for n in names for m, own in read.items() if (points := trajectory(own, n))}
    ends = [v for points in lines.values() for p in points for s in (p.train, p.val) for v in (s.low, s.high)]
    if not (reach := look.padded(ends)):
        return None
    colors = look.modality_colors(names)
    measure = metric(every)
    last = max(1, *(p.epoch for points in lines.values() for p in points))
    panels = []
    for (name, method), points in lines.items():
        x = look.x_axis("epoch", "epoch", [-0.02 * last, 1.02 * last], form="d")
        own = [reading for reading in read[method] if reading.modality == name]
        up = partial(look.y_axis, title=measure, domain=reach)
        drawing = look.layered(
            look.rules(moments[method], x, "epoch"),
            *_score_layers(name, points, own, colors[name], x, up),
            height=180,
        )
        said = f"{measure} of training and validation features of {name} over epochs, {method}"
        panels.append(Panel(look.heading(name, method), said, drawing))
    several = max(p.train.n for points in lines.values() for p in points) > 1
    caption = "Thick lines are means over seeds, thin ones single seeds. " if several else ""
    caption += GAP_CAPTION
    legend = [Key(label, look.INK, dash) for label, dash in SPLITS.values()] + [GAP]
    if any(moments.values()):
        legend.append(MOMENT)
        complete = sum(map(len, read.values())) == len(every)
        caption += MOMENT_CAPTION if complete else OTHER_RULER
    title = f"{measure[0].upper()}{measure[1:]} of training and validation features"
    columns = len(read) if len(panels) == len(names) * len(read) else 2
    return Chart("learning", title, caption, panels, columns, legend, _score_table(lines, measure))


def _score_layers(
    name: str, points: Sequence[Point], own: Sequence[Reading], color: str, x: alt.X, up: Any
) -> list[alt.Chart]:
    rows = [{"modality": name, "epoch": p.epoch, "train": p.train.mean, "val": p.val.mean} for p in points]
    layers = [look.band(rows, x, up("val"), "train", color)]
    seeds = list(dict.fromkeys(reading.seed for reading in own))
    single = [
        {"seed": seed, "epoch": p.epoch, "train": p.train.mean, "val": p.val.mean}
        for seed in seeds
        for p in trajectory([reading for reading in own if reading.seed == seed], name)
    ]
    for split, (label, dash) in SPLITS.items():
        if len(seeds) > 1:
            thin = look.source(single).mark_line(
                color=color,
                opacity=0.4,
                strokeWidth=1,
                strokeDash=look.DASHES[dash],
                order=False,
                tooltip=None,
            )
            layers.append(thin.encode(x, up(split), detail="seed:N"))
        tooltip = look.tips(modality="", epoch="d", **{split: (".3f", label)})
        layers.append(look.curve(rows, x, up(split), color, dash, tooltip))
    return layers


def _score_table(lines: Mapping[tuple[str, str], Sequence[Point]], measure: str) -> Table:
    rows = [
        {
            "method": Cell(method),
            "modality": Cell(name),
            "epoch": whole(point.epoch),
            "event": Cell("before re-learning" if point.event == RELEARNING else "diagnosis"),
            f"training {measure}": rounded(point.train.mean),
            f"validation {measure}": rounded(point.val.mean),
            "gap": rounded(point.gap.mean),
        }
        for (name, method), points in lines.items()
        for point in points
    ]
    return Table.of("Means over seeds.", rows, ("modality", "event"))


def strengths(read: Sequence[Reading], method: str) -> Chart | None:
    """Return the strength applied to each modality at each re-learning: the mean, and a dot a seed."""
    pulls = [reading for reading in read if reading.event == RELEARNING and math.isfinite(reading.applied)]
    if not pulls:
        return None
    names, epochs = modalities(pulls), relearning_epochs(pulls)
    all_colors = look.modality_colors(modalities(read))
    colors = {name: all_colors[name] for name in names}
    means = {
        (name, epoch): Spread.of(r.applied for r in pulls if (r.modality, r.epoch) == (name, epoch))
        for name in names
        for epoch in epochs
    }
    several = len({reading.seed for reading in pulls}) > 1
    caption = f"{method}: 0 leaves the weights as they are, 1 restores the initial ones."
    caption += " Bars are means over seeds, dots single seeds." if several else ""
    drawing = _strength_drawing(pulls, means, colors, several)
    return Chart(
        "strength",
        "Strength of re-learning",
        caption,
        [Panel("", "Strength of re-learning by modality at each re-learning.", drawing)],
        legend=[Key(name, color, "band") for name, color in colors.items()],
        numbers=_strength_table(means, names, epochs),
    )


def _strength_drawing(
    pulls: Sequence[Reading],
    means: Mapping[tuple[str, int], Spread],
    colors: Mapping[str, str],
    several: bool,
) -> alt.LayerChart:
    x = alt.X("epoch:O", title="epoch of the re-learning", axis=alt.Axis(labelAngle=0, grid=False))
    x = x.scale(paddingInner=0.2, paddingOuter=0.1)
    offset = alt.XOffset("modality:N", scale=alt.Scale(domain=list(colors), paddingInner=0.1))
    top = max(reading.applied for reading in pulls)
    y = look.y_axis("strength", "strength", [0, min(1.02, max(0.1, 1.12 * top))])
    bars = look.source(
        {"modality": name, "epoch": epoch, "strength": spread.mean}
        for (name, epoch), spread in means.items()
        if spread
    )
    dots = look.source(
        {"modality": r.modality, "epoch": r.epoch, "seed": r.seed, "strength": r.applied} for r in pulls
    )
    small = dots.mark_point(filled=True, size=30, color=look.PAPER, stroke=look.INK, strokeWidth=1, opacity=1)
    shown = look.tips(modality="", epoch="d", strength=(".3f", "mean strength" if several else "strength"))
    one = look.tips(modality="", epoch="d", seed="d", strength=".3f")
    return look.layered(
        bars.mark_bar().encode(x, y, offset, look.by_color("modality", colors), tooltip=shown),
        small.encode(x, y, offset, tooltip=one) if several else None,
        height=220,
    )


def _strength_table(
    means: Mapping[tuple[str, int], Spread], names: Sequence[str], epochs: Sequence[int]
) -> Table:
    def cell(spread: Spread) -> Cell:
        return replace(rounded(spread.mean), note=between(spread.low, spread.high) if spread.n > 1 else "")

    rows = [
        {"modality": Cell(name), **{f"epoch {epoch}": cell(means[name, epoch]) for epoch in epochs}}
        for name in names
    ]
    return Table.of("Mean strength, and its range over seeds.", rows)
