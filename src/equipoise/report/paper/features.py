"""Figure 3: the features of joint training and of re-learning side by side, by modality and split."""

from __future__ import annotations

from typing import Final

import altair as alt

from equipoise.experiments.paper.measured import Cloud
from equipoise.experiments.paper.reproduce import Reproduction
from equipoise.report.charts import look
from equipoise.report.charts.chart import Chart, Key, Panel
from equipoise.report.charts.projections import CLASS_KEYS, class_style, cloud
from equipoise.report.text.tables import Cell, Table, rounded, whole
from equipoise.report.text.wording import decimal, shortened

HEIGHT: Final = 220


def features(found: Reproduction) -> Chart:
    """Return a row a modality and split, and a column a method."""
    panels, rows = [], []
    classes: tuple[str, ...] = ()
    for case in found.cases:
        clouds = found.clouds[case.cell.name]
        before = f"{case.title}: " if len(found.cases) > 1 else ""
        classes = clouds[0].projection.classes
        for modality in dict.fromkeys(one.projection.modality for one in clouds):
            own = [one for one in clouds if one.projection.modality == modality]
            panels += [_panel(before, one, split) for split in ("training", "validation") for one in own]
            rows += [_row(before, one) for one in own]
    caption = (
        "Features before fusion of the run with the first seed, at the epoch selected on validation; t-SNE "
        "of both splits together, a mark a sample, coloured by class. Distances between groups and their "
        "sizes mean nothing. Purity is that of k-means clusters of the features themselves."
    )
    legend = [Key(shortened(name), *class_style(index)) for index, name in enumerate(classes)]
    legend = legend if len(classes) <= CLASS_KEYS else []
    return Chart("features", "", caption, panels, 2, legend, Table.of("Purity.", rows, ("method",)))


def _row(before: str, shown: Cloud) -> dict[str, Cell]:
    return {
        "modality": Cell(f"{before}{shown.projection.modality}"),
        "method": Cell(shown.method),
        "epoch": whole(shown.epoch),
        "training purity": rounded(shown.train_purity),
        "validation purity": rounded(shown.val_purity),
        "gap": rounded(shown.train_purity - shown.val_purity),
    }


def _panel(before: str, shown: Cloud, split: str) -> Panel:
    projection = shown.projection
    points, labels, purity = (
        (projection.train, projection.train_labels, shown.train_purity)
        if split == "training"
        else (projection.val, projection.val_labels, shown.val_purity)
    )
    both = [*projection.train.tolist(), *projection.val.tolist()]
    reach = [look.padded([point[axis] for point in both], share=0.05) for axis in (0, 1)]
    x = look.x_axis("x", "", reach[0], labels=False)
    y = look.y_axis("y", "", reach[1], labels=False, grid=False)
    heading = f"{before}{shown.method}: {projection.modality}, {split}"
    said = f"t-SNE of the {split} features of {projection.modality}, {shown.method}"
    corner = look.source([{"text": f"purity {decimal(purity, 2)}"}]).mark_text(
        align="right", baseline="top", color=look.MUTED, fontSize=12
    )
    drawing = look.layered(
        cloud(points, labels, projection.classes, x, y),
        corner.encode(x=alt.value("width"), y=alt.value(4), text="text:N"),
        height=HEIGHT,
    )
    return Panel(heading, said, drawing)
