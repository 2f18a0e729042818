"""The chart of features in the plane (Wei et al., ECCV 2024, Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import altair as alt
import numpy as np

from equipoise.diagnosis.features.projections import Projection
from equipoise.report.charts import look
from equipoise.report.charts.chart import Chart, Key, Panel
from equipoise.report.text.wording import decimal, shortened

CLASS_KEYS: Final = 12
"""Classes that a legend names at most."""
MANY_SAMPLES: Final = 300
KIND_NAMES: Final = {"t-sne": "t-SNE", "pca": "PCA"}


def class_style(index: int) -> tuple[str, str]:
    """Return colour and shape of a class; no two of the first 36 share both."""
    return look.PALETTE[index % len(look.PALETTE)], look.SHAPES[index // len(look.PALETTE) % len(look.SHAPES)]


def projections(shown: Sequence[Projection]) -> Chart | None:
    """Return the features of each modality in the plane, for training and validation."""
    if not shown:
        return None
    panels = [panel for projection in shown for panel in _splits(projection)]
    held = sorted({int(c) for p in shown for c in (*p.train_labels, *p.val_labels)})
    names = shown[0].classes
    named = held if len(held) <= CLASS_KEYS else []
    legend = [Key(shortened(names[index]), *class_style(index)) for index in named]
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
    reach = [look.padded(everything[:, axis].tolist(), share=0.05) for axis in (0, 1)]
    kind, panels = KIND_NAMES.get(projection.kind, projection.kind), []
    titles = [f"{kind} {axis}" for axis in (1, 2)]
    if projection.explained:
        titles = [
            f"component {axis} ({decimal(share)} of the variance)"
            for axis, share in enumerate(projection.explained, 1)
        ]
    for split, points, labels in (
        ("training", projection.train, projection.train_labels),
        ("validation", projection.val, projection.val_labels),
    ):
        x = look.x_axis("x", titles[0], reach[0], labels=False)
        y = look.y_axis("y", titles[1], reach[1], labels=False, grid=False)
        drawing = look.layered(cloud(points, labels, projection.classes, x, y), height=270)
        said = f"{kind} of the {split} features of {projection.modality}, coloured by class"
        panels.append(Panel(look.heading(projection.modality, kind, split), said, drawing))
    return panels


def cloud(points: Any, labels: Any, classes: Sequence[str], x: alt.X, y: alt.Y) -> alt.Chart:
    """Return a mark a sample; marks are drawn in the order of the samples, so that no class covers others."""
    held = sorted({int(index) for index in labels})
    scales = [alt.Scale(domain=held, range=[class_style(index)[place] for index in held]) for place in (0, 1)]
    rows = [
        {"x": float(a), "y": float(b), "class": int(index)}
        for (a, b), index in zip(points, labels, strict=True)
    ]
    size = 28 if len(rows) > MANY_SAMPLES else 50
    names = alt.InlineData(values=[{"class": index, "name": classes[index]} for index in held])
    marks = look.source(rows).mark_point(filled=True, size=size, opacity=0.75)
    return marks.transform_lookup("class", alt.LookupData(data=names, key="class", fields=["name"])).encode(
        x,
        y,
        alt.Color("class:N", scale=scales[0], legend=None),
        alt.Shape("class:N", scale=scales[1], legend=None),
        tooltip=look.tips(name=("", "class")),
    )
