"""How well the features of each split separate over a training, measured after it (paper, Fig. 4)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from equipoise.data import RunData
from equipoise.diagnosis import collect_features, purity
from equipoise.diagnosis.features.capture import encoders_of
from equipoise.files.whole import write_atomically
from equipoise.models import BalancedModel
from equipoise.training.measuring.evaluation import evaluate
from equipoise.training.record.record import TRACE, RunRecord
from equipoise.training.record.snapshots import Snapshots
from equipoise.types import Batch, RunFolderError


@dataclass(frozen=True)
class TracePoint:
    """One point of a training.

    Attributes:
        epoch: the epoch (0-based) that had ended.
        event: `epoch` for an evaluation point, else `before-relearning` or `after-relearning`.
        modalities: modality to purity of its `train`, `val` and `test` features, as the paper measures it.
        accuracy: of `val` and `test`.
    """

    epoch: int
    event: str
    modalities: Mapping[str, Mapping[str, float]]
    accuracy: Mapping[str, float]


def measure_trace(
    snapshots: Snapshots,
    model: BalancedModel,
    data: RunData,
    test: Iterable[Batch],
    device: torch.device,
) -> list[TracePoint]:
    """Measure every snapshot of a training that has ended; the weights of the model are then restored.

    No decision depends on it any more, so that the test split, already opened by the run, is measured too.
    """
    splits = {"train": data.train_eval, "val": data.val, "test": test}
    kept = deepcopy(model.state_dict())
    points: list[TracePoint] = []
    try:
        for snapshot, changed in snapshots.states(model):
            if changed:  # else they are those of the point before, as with a strength of 0
                modalities = _purities(model, splits)
                accuracy = {
                    split: evaluate(model, splits[split], data.class_count, device).scores["accuracy"]
                    for split in ("val", "test")
                }
            points.append(TracePoint(snapshot.epoch, snapshot.event, modalities, accuracy))
    finally:
        model.load_state_dict(kept)
    return points


def _purities(model: BalancedModel, splits: Mapping[str, Iterable[Batch]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {name: {} for name in model.modalities}
    for split, batches in splits.items():
        captured = collect_features(encoders_of(model), model, batches)
        for name, features in captured.features.items():
            # Every split of a run has every class, and so the same number of clusters.
            found[name][split] = purity(features, captured.target.numpy())
    return found


def write_trace(record: RunRecord, points: Iterable[TracePoint]) -> None:
    """Write `trace.jsonl`, whole or not at all."""
    if not record.writes:
        return
    write_atomically(record.path(TRACE), "".join(json.dumps(vars(point)) + "\n" for point in points))


def read_trace(run_dir: str | os.PathLike[str]) -> list[TracePoint] | None:
    """Read the trace of a finished run.

    Returns:
        The points in order; None where the run has none.

    Raises:
        RunFolderError: there is no finished run, or the file is damaged.
    """
    record = RunRecord(Path(run_dir))
    record.result()  # raises where there is none
    if not record.path(TRACE).is_file():
        return None
    return [_point(record, event) for event in record.events(TRACE)]


def _point(record: RunRecord, event: Mapping[str, Any]) -> TracePoint:
    try:
        return TracePoint(**event)
    except TypeError:
        raise RunFolderError(
            f"{record.path(TRACE)} holds {str(event)[:80]!r}, which is not a point of a trace; run again."
        ) from None
