"""Measure the kept weights after training, also on the test split."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from equipoise.data import RunData
from equipoise.distributed import by_first
from equipoise.tasks import MULTILABEL
from equipoise.training.loop import Training
from equipoise.training.measuring.floor import floor_of
from equipoise.training.measuring.mean_features import MeanFeatures
from equipoise.training.measuring.probes import probe_scores
from equipoise.training.record.predictions import write_predictions
from equipoise.training.record.record import METRICS, PREDICTIONS
from equipoise.training.record.trace import measure_trace, write_trace
from equipoise.types import DataError, ModelError, warn


class Conclusion(NamedTuple):
    """What is measured once the training has ended.

    Attributes:
        test: `loss` and the task's figures on the test split.
        probes: for each modality the main figure, on validation, of a linear model on its frozen features.
        peak_memory: of the training and its test, in bytes.
        means: modality to its mean feature `[d_m]` over the training split; empty where it was not measured.
    """

    test: dict[str, float]
    probes: dict[str, float]
    peak_memory: int | None
    means: dict[str, NDArray[np.float64]]


def conclude(training: Training, data: RunData) -> Conclusion:
    """Open the test split, the only time, and write the predictions and figures of the kept weights."""
    record = training.run_record
    with training.repeatable():
        batches = data.open_test()
        test = training.evaluate(batches)
        record.append(METRICS, {"event": "test", **{f"test_{k}": value for k, value in test.scores.items()}})
        peak_memory = training.peak_memory  # what follows does not belong to the method
        splits = {"val": training.best["predictions"], "test": test.predictions}
        if record.writes:
            write_predictions(record.path(PREDICTIONS), splits)
        features = MeanFeatures()
        probes = _probes(training, features)
        means = features.means() if probes else {}
        if training.snapshots is not None:
            points = measure_trace(training.snapshots, training.model, data, batches, training.device)
            write_trace(record, points)
    return Conclusion(test.scores, probes, peak_memory, means)


def _probes(training: Training, features: MeanFeatures) -> dict[str, float]:
    try:
        return probe_scores(training.model, training.train_eval, training.val, features.reader)
    except (DataError, ModelError) as error:
        # A training that took hours must not fail because of this.
        warn(f"the features of the kept weights were not probed: {error}")
        return {}


def floor_record(training: Training, data: RunData, folder: Path | None) -> dict[str, Any]:
    """Return what the result says about the floor under the kept weights; see `floor_of`."""
    predictions = training.best["predictions"]
    outputs = predictions["probability" if data.task == MULTILABEL.name else "predicted"].numpy()
    mean, deviation = data.target_scale
    if deviation != 1.0 or mean:  # of a numeric target, which is standardised for all models
        outputs = (outputs - mean) / deviation
    alone = data.alone()
    floor = by_first(lambda: floor_of(alone, folder))
    return floor.record(training.model.modalities, outputs)
