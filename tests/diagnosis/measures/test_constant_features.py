"""Constant features, as those of an encoder that has died: chance level and no gap, by every measure."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.diagnosis import diagnose
from equipoise.diagnosis.measures.catalogue import MEASURES
from equipoise.diagnosis.options import PRESETS

Y, Y_VAL = np.arange(240) % 4, np.arange(120) % 4
SIZES = {"train": 240, "val": 120}
TOLERANCE = 0.03
"""Equal subsets of targets that are no classes are drawn at random."""


def targets(kind):
    """Return targets of both splits, and what is reached without any information."""
    if kind == "classes":
        return Y, Y_VAL
    if kind == "continuous":
        return Y + 0.25, Y_VAL + 0.25
    return np.stack([Y < 2, Y % 2], 1).astype(int), np.stack([Y_VAL < 2, Y_VAL % 2], 1).astype(int)


CHANCE = {
    "purity": 1 / 4,
    "knn": 1 / 4,
    "nearest-class-mean": 1 / 4,
    "linear-probe": 1 / 4,
    "auxiliary-head": 1 / 4,
    "binned-purity": 1 / 4,
    "linear-map": 1 / 2,
    "knn-map": 1 / 2,
}
"""Share of a class or label; all other measures are 0 without information."""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", MEASURES)
@pytest.mark.parametrize("preset", PRESETS)
def test_constant_features_are_at_chance_level_without_a_gap(metric, preset):
    y, y_val = targets(MEASURES[metric].target)
    for value, pca in ((0.0, None), (1000.1, 3)):
        train, val = (np.full((count, 6), value, np.float32) for count in SIZES.values())
        chosen = {"metric": metric, "preset": preset, "bootstrap": 20, "pca": pca}
        state = diagnose({"m": train}, y, {"m": val}, y_val, **chosen)["m"]
        assert state.train_score == pytest.approx(CHANCE.get(metric, 0.0), abs=TOLERANCE)
        assert state.gap == pytest.approx(0, abs=TOLERANCE)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dead", SIZES)
@pytest.mark.parametrize("metric", MEASURES)
def test_a_split_of_constant_features_beside_another_has_a_state(blobs, metric, dead):
    y, y_val = targets(MEASURES[metric].target)
    splits = {split: blobs(n=count, classes=4, d=6)[0] for split, count in SIZES.items()}
    splits[dead] = np.zeros_like(splits[dead])
    for preset in PRESETS:
        chosen = {"metric": metric, "preset": preset, "bootstrap": 20}
        if preset != "held-out":
            chosen["assign"] = "refit"
        state = diagnose({"m": splits["train"]}, y, {"m": splits["val"]}, y_val, **chosen)
        scores = {"train": state["m"].train_score, "val": state["m"].val_score}
        if preset != "held-out":  # each split is scored by itself
            assert scores[dead] == pytest.approx(CHANCE.get(metric, 0.0), abs=TOLERANCE)
