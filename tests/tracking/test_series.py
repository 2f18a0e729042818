"""Names of the curves, and pictures of features, as a tracker shows them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from equipoise.diagnosis.features.capture import Captured
from equipoise.tracking.pictures import COLOURS, FRAME, MOST, PAPER, feature_pictures
from equipoise.tracking.series import series

STATE = {"metric": "ridge-r2", "train_score": 0.9, "val_score": None, "gap": -0.5, "strength": 0.8}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            {"event": "epoch", "epoch": 3, "train_loss": 0.5, "val_macro_f1": 1, "lr": 0.1, "note": "a"},
            {"train/loss": 0.5, "val/macro_f1": 1.0, "lr": 0.1},
        ),
        ({"event": "epoch", "epoch": 3, "train_loss": None, "val_ok": True}, {}),
        ({"event": "test", "test_loss": 2}, {"test/loss": 2.0}),
        ({"event": "start", "data_fingerprint": "0123"}, {}),
        (
            {"event": "information", "epoch": 1, "traces": {"audio": 2, "video": 0.5}, "regulated": ["a"]},
            {"information/traces/audio": 2.0, "information/traces/video": 0.5},
        ),
        (
            {"event": "relearning", "epoch": 1, "modalities": {"eye": {**STATE, "applied": 0.25}}},
            {"ridge-r2/eye/train": 0.9, "gap/eye": -0.5, "strength/eye": 0.25},
        ),
        (  # its strength is one that no encoder was pulled by
            {"event": "diagnosis", "epoch": 1, "modalities": {"eye": {**STATE, "applied": None}}},
            {"ridge-r2/eye/train": 0.9, "gap/eye": -0.5},
        ),
    ],
)
def test_events_as_curves(event: dict[str, Any], expected: dict[str, float]) -> None:
    assert series(event) == expected


def test_a_second_measurement_of_an_epoch_has_curves_of_its_own() -> None:
    event = {"event": "diagnosis", "epoch": 1, "modalities": {"eye": {**STATE, "applied": None}}}
    found = series(event, again=True)
    assert found == {"after-relearning/ridge-r2/eye/train": 0.9, "after-relearning/gap/eye": -0.5}


def captured(points: Any, target: Any) -> Captured:
    return Captured({"eye": torch.tensor(points, dtype=torch.float32)}, torch.tensor(target))


def test_a_picture_shows_each_class_in_its_colour_and_place() -> None:
    # Class 0 left, class 1 right, the validation samples of both in the middle.
    train = captured([[-1.0, 0.0, 0.0], [-1.0, 0.1, 0.0], [1.0, 0.0, 0.0], [1.0, -0.1, 0.0]], [0, 0, 1, 1])
    val = captured([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [1, 1])
    image = feature_pictures(train, val, ["one", "two"])()["features/eye"]
    pixels = np.asarray(image)[28:348]  # between title and legend
    rgb = [tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5)) for colour in (*COLOURS[:2], PAPER)]
    found = {index: np.argwhere((pixels == colour).all(axis=-1))[:, 1] for index, colour in enumerate(rgb)}
    left, right = 12 + 160, 12 + 320 + 12 + 160  # middles of both panels
    sides = sorted([found[0].mean() - left, found[1][found[1] < 332].mean() - left])
    assert sides == pytest.approx([-147, 147], abs=8)  # the ends of the first component
    assert found[1][found[1] > 332].mean() == pytest.approx(right, abs=2)
    assert not (found[0] > 332).any()  # class 0 has no validation sample
    assert FRAME.startswith("#")


def test_a_picture_of_many_samples_keeps_some_from_all_over_the_split() -> None:
    count = 4 * MOST + 1
    many = captured(np.stack([np.arange(count), np.zeros(count)], axis=1), np.arange(count) % 30)
    kept = feature_pictures(many, many).args[0]  # type: ignore[attr-defined]
    assert len(kept.target) == MOST
    assert (kept.features["eye"][0, 0], kept.features["eye"][-1, 0]) == (0, count - 1)
    assert feature_pictures(many, many)()["features/eye"].size == (676, 28 + 320 + 3 * 20 + 24)
