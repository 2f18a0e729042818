"""The linear head against scikit-learn's ridge, and contributions of features with known information."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from equipoise.diagnosis.contribution import linear_head
from equipoise.diagnosis.contribution.linear_head import STRENGTHS, fit_head, fit_whole
from equipoise.diagnosis.contribution.of_features import contribution_of_features
from equipoise.diagnosis.contribution.refits import refits_of
from equipoise.types import DataError, UnknownNameError

DATA = Path(__file__).parents[4] / "shared" / "data"


def draw(n: int, seed: int, classes: int = 3) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    means = np.random.default_rng(9).normal(size=(classes, 6))
    x = {
        "audio": (means[y] + rng.normal(size=(n, 6))) * 50 + 1000,
        "video": (0.3 * means[y] + rng.normal(size=(n, 6))).astype(np.float32),
        "noise": rng.normal(size=(n, 4)),
    }
    x["noise"][:, 0] = 7.1  # a constant feature
    return x, y


def sklearn_scores(x: Any, y: Any, x_val: Any, names: list[str], strength: float) -> np.ndarray:
    train, val = (np.concatenate([part[m] for m in names], axis=1) for part in (x, x_val))
    scaler = StandardScaler().fit(train)
    ridge = Ridge(alpha=strength * len(y)).fit(scaler.transform(train), np.eye(3)[y])
    return ridge.predict(scaler.transform(val))


@pytest.mark.parametrize("chunk", [7, 2048])
def test_scores_equal_those_of_a_ridge(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_head, "CHUNK", chunk)
    (x, y), (x_val, _) = draw(90, 0), draw(40, 1)
    known, whole = fit_whole(x, y, 3)
    for names in (list(x), ["audio"], ["noise", "video"]):
        head = fit_head(known, names)
        expected = sklearn_scores(x, y, x_val, names, head.strength)
        found = sum(head.parts(x_val).values()) + head.bias
        np.testing.assert_allclose(found, expected, atol=1e-7)
    assert whole.strength in STRENGTHS


def test_the_strength_equals_that_of_generalised_cross_validation() -> None:
    x, y = draw(60, 0)
    names = ["video", "noise"]
    known, _ = fit_whole(x, y, 3)
    z = StandardScaler().fit_transform(np.concatenate([x[m] for m in names], axis=1))
    centred, n = np.eye(3)[y] - np.eye(3)[y].mean(0), len(y)
    risks = []
    for strength in STRENGTHS:
        hat = z @ np.linalg.solve(z.T @ z + n * strength * np.eye(z.shape[1]), z.T)
        residual = np.square(centred - hat @ centred).sum() / n
        risks.append(residual / (1 - (1 + np.trace(hat)) / (n + 1)) ** 2)
        rows = np.r_[known.columns["video"], known.columns["noise"]]
        own = linear_head._gcv(known.gram[np.ix_(rows, rows)], known.cross[rows], known, strength)
        assert own == pytest.approx(risks[-1], rel=1e-6)
    assert fit_head(known, names).strength == STRENGTHS[int(np.argmin(risks))]


def test_more_features_than_samples() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = {"a": rng.normal(size=(40, 100)) + y[:, None]}
    x_val = {"a": rng.normal(size=(40, 100)) + y[:, None]}
    found = contribution_of_features(x, y, x_val, y)
    assert found.score > 0.9
    assert (found.without, found.refitted) == ({}, {"a": found.score})


def test_contributions_match_the_information_in_the_features() -> None:
    (x, y), (x_val, y_val) = draw(600, 0), draw(400, 1)
    found = contribution_of_features(x, y, x_val, y_val)
    assert found["audio"].shapley > found["video"].shapley > found["noise"].shapley
    assert abs(found["noise"].drop_permuted) < 0.02
    assert found["audio"].removed == found["audio"].averaged  # inputs are standardised
    assert found.refitted is not None
    assert found.without is not None
    assert found.refitted_all == found.score
    assert found.refitted["audio"] > found.refitted["video"] > found.refitted["noise"]
    assert abs(found.refitted["noise"] - found.chance) < 0.1
    strength = fit_whole(x, y, 3)[1].strength
    scores = sklearn_scores(x, y, x_val, ["video", "noise"], strength)
    assert found.without["audio"] == np.mean(scores.argmax(1) == y_val)
    known, _ = fit_whole(x, y, 3)
    scores = sklearn_scores(x, y, x_val, ["audio"], fit_head(known, ["audio"]).strength)
    assert found.refitted["audio"] == np.mean(scores.argmax(1) == y_val)
    total = sum(own.shapley for own in found.values())
    assert total == pytest.approx(found.score - found.baseline, abs=1e-12)
    assert contribution_of_features(x, y, x_val, y_val) == found
    scores = refits_of(x, y, x_val, y_val)
    assert (scores.alone, scores.without, scores.everything) == (
        found.refitted,
        found.without,
        found.refitted_all,
    )


def test_names_and_classes_are_arbitrary() -> None:
    (x, y), (x_val, y_val) = draw(120, 0), draw(60, 1)
    words = np.array(["b", "c", "d"])
    one = contribution_of_features(x, y, x_val, y_val)
    two = contribution_of_features(x, words[y], x_val, words[y_val])
    assert two.classes == ("b", "c", "d")
    assert dict(one) == dict(two)
    turned = contribution_of_features(dict(reversed(x.items())), y, x_val, y_val)
    for m in one:
        assert turned[m].shapley == pytest.approx(one[m].shapley, abs=1e-12)


def test_a_continuous_target() -> None:
    rng = np.random.default_rng(3)
    (a, v), noise = rng.normal(size=(2, 500, 3)), rng.normal(size=500)
    y = 2 * a[:, 0] + v[:, 0] + 0.1 * noise
    x, x_val = ({"a": a[part], "v": v[part]} for part in (slice(300), slice(300, None)))
    found = contribution_of_features(x, y[:300], x_val, y[300:])
    assert found.metric == "r2"
    assert found.score > 0.99
    assert found["a"].shapley == pytest.approx(0.8, abs=0.1)
    assert found.refitted is not None
    assert found.refitted["v"] == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": {"audio": np.zeros((5, 2))}}, "expected the same names"),
        ({"val_labels": np.array([0, 1, 2, 5] * 15)}, "no sample in the training split: 5"),
        ({"train_labels": np.arange(10) % 3}, "120 rows, but there are 10"),
        ({"train_labels": np.zeros(120, int), "val_labels": np.zeros(60, int)}, "one class"),
        ({"train_labels": np.full(120, np.nan)}, "NaN"),
        ({"train_labels": np.arange(120) % 3 * 1.0}, "whole floats"),
    ],
)
def test_invalid_input_is_refused(change: dict[str, Any], message: str) -> None:
    (x, y), (x_val, y_val) = draw(120, 0), draw(60, 1)
    with pytest.raises(DataError, match=message):
        contribution_of_features(
            **{"train": x, "train_labels": y, "val": x_val, "val_labels": y_val, **change}
        )


def test_width_and_options() -> None:
    (x, y), (x_val, y_val) = draw(120, 0), draw(60, 1)
    with pytest.raises(DataError, match="6 features in train and 2 in val"):
        contribution_of_features(x, y, {**x_val, "audio": np.zeros((60, 2))}, y_val)
    with pytest.raises(UnknownNameError, match="resamples"):
        contribution_of_features(x, y, x_val, y_val, resample=3)
