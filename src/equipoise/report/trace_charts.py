"""What training did to each modality, epoch by epoch (Wei et al., ECCV 2024, Fig. 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

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
from equipoise.report.learning_charts import modality_colors
from equipoise.report.tables import Cell, Table, amount
from equipoise.report.wording import chart_text, decimal, number, shortened

SPLITS: Final = {"train": ("training", "solid"), "val": ("validation", "dot"), "test": ("test", "dash")}
BEFORE, AFTER = "before-relearning", "after-relearning"
HEIGHT: Final = 260


def over_epochs(trace: Sequence[Mapping[str, Any]], measure: str = "purity") -> Chart | None:
    """Return scores of all splits, gap and accuracy over epochs, with the re-learning moments marked.

    Args:
        trace: records `{"epoch", "event", "modalities": {m: {"train", "val", "test"}}, "accuracy": {"val",
            "test"}}`; `event` is `epoch`, `before-relearning` or `after-relearning`, and `test` may be None.
        measure: of the scores.
    """
    # At one epoch a re-learning lies between the looks before and after it.
    order = {BEFORE: 0, AFTER: 1}
    records = sorted(trace, key=lambda r: (int(r["epoch"]), order.get(str(r["event"]), 2)))
    if not records:
        return None
    names = list(dict.fromkeys(name for record in records for name in record["modalities"]))
    colors, frame = modality_colors(names), _Frame(records)
    scores = [_score(record, name, split) for record in records for name in names for split in SPLITS]
    panels = [
        Panel(
            f"{shortened(name)}",
            f"{measure} of training, validation and test features of {name} over epochs",
            {"data": _scores(records, name, colors[name]), "layout": frame.layout(measure, scores)},
        )
        for name in names
    ]
    panels.append(_gap_panel(records, names, colors, frame, measure))
    if accuracy := _accuracy_panel(records, frame):
        panels.append(accuracy)
    caption = "The tinted area between training and validation is the gap."
    legend = [Key(label, INK, _mark(dash)) for split, (label, dash) in SPLITS.items() if _has(records, split)]
    legend += [Key("gap", INK, "tint"), *(Key(shortened(name), colors[name]) for name in names)]
    if frame.moments:
        caption += " At a re-learning the lines step: measured right before, and right after."
        legend.append(Key("re-learning", MUTED, "rule"))
    if _has(records, "test"):
        caption += " The test split was opened once, when training had ended; it decided nothing."
    title = f"{measure[0].upper()}{measure[1:]}, gap and accuracy over epochs"
    return Chart("trace", title, caption, panels, 2, legend, _numbers(records, names, measure))


def _mark(dash: str) -> str:
    return "line" if dash == "solid" else dash


def _score(record: Mapping[str, Any], name: str, split: str) -> float:
    return number(record["modalities"].get(name, {}).get(split))


def _has(records: Sequence[Mapping[str, Any]], split: str) -> bool:
    found = [number(own.get(split)) for record in records for own in record["modalities"].values()]
    found += [number(record.get("accuracy", {}).get(split)) for record in records]
    return any(math.isfinite(value) for value in found)


class _Frame:
    """What the panels share: the reach of the epochs, and the moments of re-learning."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        epochs = [int(record["epoch"]) for record in records]
        air = 0.02 * max(1, max(epochs) - min(epochs))
        self.reach = [min(epochs) - air, max(epochs) + air]
        self.moments = sorted({int(r["epoch"]) for r in records if r["event"] in (BEFORE, AFTER)})

    def layout(self, title: str, values: Sequence[float], **y: Any) -> dict[str, Any]:
        across = {"title": axis_title("epoch"), "range": self.reach, "nticks": 8}
        up = {"title": axis_title(title), "range": padded(values), "nticks": 6, **y}
        return layout(HEIGHT, x=across, y=up, shapes=[rule("x", epoch) for epoch in self.moments])


def _curve(
    epochs: Sequence[int], values: Sequence[float], color: str, dash: str, label: str, form: str = ".3f"
) -> dict[str, Any]:
    hover = f"{label}<br>epoch %{{x}}: %{{y:{form}}}<extra></extra>"
    mode = "lines+markers" if len(epochs) < 2 else "lines"
    return line(epochs, values, color, dash=dash, width=2.2, hovertemplate=hover, mode=mode)


def _scores(records: Sequence[Mapping[str, Any]], name: str, color: str) -> list[dict[str, Any]]:
    epochs = [int(record["epoch"]) for record in records]
    values = {split: [_score(record, name, split) for record in records] for split in SPLITS}
    traces = [band(epochs, values["val"], values["train"], f"{color}/0.16")]
    for split, (label, dash) in SPLITS.items():
        if any(math.isfinite(value) for value in values[split]):
            traces.append(_curve(epochs, values[split], color, dash, f"{chart_text(name)}, {label}"))
    return traces


def _gap_panel(
    records: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    colors: Mapping[str, str],
    frame: _Frame,
    measure: str,
) -> Panel:
    epochs = [int(record["epoch"]) for record in records]
    gaps = {n: [_score(r, n, "train") - _score(r, n, "val") for r in records] for n in names}
    traces = [_curve(epochs, gaps[name], colors[name], "solid", chart_text(name)) for name in names]
    everything = [0.0, *(value for own in gaps.values() for value in own)]
    said = f"gap of {measure}, training minus validation, of each modality over epochs"
    return Panel("gap", said, {"data": traces, "layout": frame.layout(f"gap of {measure}", everything)})


def _accuracy_panel(records: Sequence[Mapping[str, Any]], frame: _Frame) -> Panel | None:
    epochs = [int(record["epoch"]) for record in records]
    values = {s: [number(record.get("accuracy", {}).get(s)) for record in records] for s in ("val", "test")}
    drawn = {split: own for split, own in values.items() if any(math.isfinite(value) for value in own)}
    if not drawn:
        return None
    traces = [
        _curve(epochs, own, PALETTE[0], SPLITS[split][1], f"accuracy, {SPLITS[split][0]}", ".1%")
        for split, own in drawn.items()
    ]
    everything = [value for own in drawn.values() for value in own]
    said = "accuracy of the multimodal model over epochs"
    frame_of = frame.layout("accuracy", everything, tickformat="~%")
    return Panel("accuracy of the model", said, {"data": traces, "layout": frame_of})


def _numbers(records: Sequence[Mapping[str, Any]], names: Sequence[str], measure: str) -> Table:
    splits = [split for split in SPLITS if _has(records, split)]
    accuracies = [split for split in ("val", "test") if split in splits]
    head = ["epoch", "event"]
    head += [f"{name}, {SPLITS[split][0]} {measure}" for name in names for split in splits]
    head += [f"{SPLITS[split][0]} accuracy" for split in accuracies]
    rows = []
    for record in records:
        own = [_score(record, name, split) for name in names for split in splits]
        own += [number(record.get("accuracy", {}).get(split)) for split in accuracies]
        epoch, event = int(record["epoch"]), str(record["event"]).replace("-", " ")
        cells = [amount(value, decimal(value, 3)) for value in own]
        rows.append([Cell(str(epoch), float(epoch)), Cell(event), *cells])
    return Table("All measurements.", head, rows, frozenset({1}))
