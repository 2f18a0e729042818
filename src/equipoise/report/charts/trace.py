"""What training did to each modality, epoch by epoch (Wei et al., ECCV 2024, Fig. 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from equipoise.report.charts import look, relearning
from equipoise.report.charts.chart import Chart, Key, Panel
from equipoise.report.charts.relearning import GAP, GAP_CAPTION, MOMENT, MOMENT_CAPTION
from equipoise.report.text.tables import Cell, Table, rounded, whole
from equipoise.report.text.wording import number

SPLITS: Final = {**relearning.SPLITS, "test": ("test", "dash")}
BEFORE, AFTER = "before-relearning", "after-relearning"
HEIGHT: Final = 200
Records = Sequence[Mapping[str, Any]]


def over_epochs(trace: Records) -> Chart | None:
    """Return purity of all splits, gap and accuracy over epochs, with the re-learning moments marked.

    Args:
        trace: records `{"epoch", "event", "modalities": {m: {"train", "val", "test"}}, "accuracy": {"val",
            "test"}}`; `event` is `epoch`, `before-relearning` or `after-relearning`, and `test` may be None.
    """
    # Within one epoch the order is: before a re-learning, after it, end of the epoch.
    order = {BEFORE: 0, AFTER: 1}
    records = sorted(trace, key=lambda r: (int(r["epoch"]), order.get(str(r["event"]), 2)))
    if not records:
        return None
    names = list(dict.fromkeys(name for record in records for name in record["modalities"]))
    colors, moments = look.modality_colors(names), _moments(records)
    panels = [_score_panel(records, name, colors[name], names) for name in names]
    panels.append(_gap_panel(records, colors))
    if accuracy := _accuracy_panel(records):
        panels.append(accuracy)
    caption = GAP_CAPTION
    legend = [Key(label, look.INK, dash) for split, (label, dash) in SPLITS.items() if _has(records, split)]
    legend += [GAP, *(Key(look.heading(name), colors[name]) for name in names)]
    if moments:
        caption += MOMENT_CAPTION
        legend.append(MOMENT)
    if _has(records, "test"):
        caption += " The test split was opened once, when training had ended; it decided nothing."
    title = "Purity, gap and accuracy over epochs"
    return Chart("trace", title, caption, panels, 2, legend, _numbers(records, names))


def _moments(records: Records) -> list[int]:
    return sorted({int(r["epoch"]) for r in records if r["event"] in (BEFORE, AFTER)})


def _score(record: Mapping[str, Any], name: str, split: str) -> float:
    return number(record["modalities"].get(name, {}).get(split))


def _accuracy(record: Mapping[str, Any], split: str) -> float:
    return number((record.get("accuracy") or {}).get(split))


def _has(records: Records, split: str) -> bool:
    found = [number(own.get(split)) for record in records for own in record["modalities"].values()]
    return any(math.isfinite(value) for value in found + [_accuracy(record, split) for record in records])


def _panel(
    records: Records,
    title: str,
    said: str,
    unit: str,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    styles: Mapping[str, tuple[str, str]],
    reach: Sequence[float],
) -> Panel:
    """Return a panel of curves over epochs; the keys of `rows` and `styles` are the names of the curves."""
    epochs = [int(record["epoch"]) for record in records]
    air = 0.02 * max(1, max(epochs) - min(epochs))
    x = look.x_axis("epoch", "epoch", [min(epochs) - air, max(epochs) + air], form="d")
    up = partial(look.y_axis, title=unit, domain=look.padded(reach))
    tooltip = look.tips(name="", epoch="d", value=(".3f", unit))
    both = [rows[name] for name in ("training", "validation") if name in rows]
    gap = [
        {"epoch": train["epoch"], "train": train["value"], "val": val["value"]}
        for train, val in (zip(*both, strict=True) if len(both) == 2 and unit != "accuracy" else ())
    ]
    drawing = look.layered(
        look.rules(_moments(records), x, "epoch"),
        look.band(gap, x, up("val"), "train", styles["training"][0]) if gap else None,
        *(look.curve(own, x, up("value"), *styles[name], tooltip) for name, own in rows.items()),
        height=HEIGHT,
    )
    return Panel(title, said, drawing)


def _rows(records: Records, name: str, values: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"name": name, "epoch": int(record["epoch"]), "value": value}
        for record, value in zip(records, values, strict=True)
    ]


def _score_panel(records: Records, name: str, color: str, names: Sequence[str]) -> Panel:
    rows, styles = {}, {}
    for split, (label, dash) in SPLITS.items():
        values = [_score(record, name, split) for record in records]
        if any(map(math.isfinite, values)):
            rows[label], styles[label] = _rows(records, f"{name}, {label}", values), (color, dash)
    said = f"purity of training, validation and test features of {name} over epochs"
    # All modalities share the vertical axis.
    reach = [_score(record, other, split) for record in records for other in names for split in SPLITS]
    return _panel(records, look.heading(name), said, "purity", rows, styles, reach)


def _gap_panel(records: Records, colors: Mapping[str, str]) -> Panel:
    gaps = {n: [_score(r, n, "train") - _score(r, n, "val") for r in records] for n in colors}
    rows = {f"gap of {name}": _rows(records, name, own) for name, own in gaps.items()}
    styles = {f"gap of {name}": (color, "line") for name, color in colors.items()}
    said = "gap of purity, training minus validation, of each modality over epochs"
    reach = [0.0, *(value for own in gaps.values() for value in own)]
    return _panel(records, "gap", said, "gap of purity", rows, styles, reach)


def _accuracy_panel(records: Records) -> Panel | None:
    rows, styles, reach = {}, {}, []
    for split in ("val", "test"):
        label, dash = SPLITS[split]
        values = [_accuracy(record, split) for record in records]
        if any(map(math.isfinite, values)):
            rows[label], styles[label] = _rows(records, label, values), (look.PALETTE[0], dash)
            reach += values
    if not rows:
        return None
    said = "accuracy of the multimodal model over epochs"
    return _panel(records, "accuracy of the model", said, "accuracy", rows, styles, reach)


def _numbers(records: Records, names: Sequence[str]) -> Table:
    splits = {split: label for split, (label, _) in SPLITS.items() if _has(records, split)}
    rows = []
    for record in records:
        row = {"epoch": whole(record["epoch"]), "event": Cell(str(record["event"]).replace("-", " "))}
        for name in names:
            for split, label in splits.items():
                row[f"{name}, {label} purity"] = rounded(_score(record, name, split))
        for split in [split for split in ("val", "test") if split in splits]:
            row[f"{splits[split]} accuracy"] = rounded(_accuracy(record, split))
        rows.append(row)
    return Table.of("All measurements.", rows, ("event",))
