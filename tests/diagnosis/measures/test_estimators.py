"""Cross-fitting, additional measures, and several measures at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import davies_bouldin_score, r2_score
from sklearn.neighbors import KNeighborsRegressor, NearestCentroid

from equipoise.diagnosis import diagnose, separability
from equipoise.diagnosis.measures.prediction import stratified_folds
from equipoise.diagnosis.options import CONTINUOUS, LABELS, METRICS
from equipoise.types import DataError, UnknownNameError


@pytest.fixture
def splits(blobs):
    x, y = blobs(n=150, classes=3, separation=0.5, seed=1)
    x_val, y_val = blobs(n=60, classes=3, separation=0.5, seed=2)
    return {"m": x}, y, {"m": x_val}, y_val


def test_cross_fit_by_hand(splits):
    train, y, val, y_val = splits
    fold, val_fold = stratified_folds(y, 5, 0), stratified_folds(y_val, 5, 0)
    hits, val_hits = [], []
    for k in range(5):
        model = NearestCentroid().fit(train["m"][fold != k], y[fold != k])
        hits += (model.predict(train["m"][fold == k]) == y[fold == k]).tolist()
        val_hits += (model.predict(val["m"][val_fold == k]) == y_val[val_fold == k]).tolist()
    state = diagnose(*splits, metric="nearest-class-mean", assign="cross-fit", scaler="none")["m"]
    assert (state.train_score, state.val_score) == (np.mean(hits), np.mean(val_hits))
    assert (len(hits), len(val_hits)) == (150, 60)


def test_folds_are_stratified(blobs):
    _, y = blobs(n=100, classes=7)
    fold = stratified_folds(y, 4, 3)
    for label in range(7):
        counts = np.bincount(fold[y == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(fold, stratified_folds(y, 4, 4))


def test_a_probe_that_memorises_its_samples_sees_a_gap_unless_it_is_cross_fitted():
    """Noise in more dimensions than samples: only the probe overfits."""
    rng = np.random.default_rng(0)
    x, x_val = rng.normal(size=(80, 120)), rng.normal(size=(80, 120))
    y = np.arange(80) % 2
    gaps = {
        assign: (s := diagnose({"m": x}, y, {"m": x_val}, y, metric="linear-probe", assign=assign)["m"])
        and s.train_score - s.val_score
        for assign in ("transfer", "cross-fit")
    }
    assert gaps["transfer"] > 0.35
    assert abs(gaps["cross-fit"]) < 0.2


def test_davies_bouldin_equals_that_of_scikit_learn_and_keeps_the_sign(splits):
    train, y, val, y_val = splits
    state = diagnose(*splits, metric="davies-bouldin", scaler="none")["m"]
    expected = [1 / (1 + davies_bouldin_score(x["m"], t)) for x, t in ((train, y), (val, y_val))]
    assert (state.train_score, state.val_score) == pytest.approx(expected, abs=1e-12)
    means = np.array([train["m"][y == label].mean(0) for label in range(3)])
    pulled = {"m": means[y] + 0.3 * (train["m"] - means[y])}
    sharper = diagnose(pulled, y, val, y_val, metric="davies-bouldin", scaler="none")["m"]
    assert sharper.train_score - sharper.val_score > 0.15
    assert sharper.interval[0] > 0


def test_davies_bouldin_of_classes_that_coincide():
    flat = np.ones((12, 2))
    state = diagnose({"m": flat}, np.arange(12) % 3, {"m": flat}, np.arange(12) % 3, metric="davies-bouldin")[
        "m"
    ]
    assert (state.train_score, state.gap) == (0.0, 0.0)


def test_knn_r2_equals_that_of_scikit_learn(splits):
    train, _, val, _ = splits
    target, target_val = train["m"] @ np.arange(8.0), val["m"] @ np.arange(8.0)
    state = diagnose(train, target, val, target_val, metric="knn-r2", assign="transfer", scaler="none")["m"]
    model = KNeighborsRegressor(5).fit(train["m"], target)
    assert state.val_score == pytest.approx(r2_score(target_val, model.predict(val["m"])), abs=1e-12)
    alone = [
        KNeighborsRegressor(5)
        .fit(np.delete(train["m"], i, 0), np.delete(target, i))
        .predict(train["m"][[i]])[0]
        for i in range(150)
    ]
    assert state.train_score == pytest.approx(r2_score(target, alone), abs=1e-12)


def test_continuous_labels_select_a_measure_and_integral_floats_do_not(splits):
    train, y, val, y_val = splits
    target, target_val = train["m"][:, 0], val["m"][:, 0]
    found = diagnose(train, target, val, target_val)
    assert found["m"].metric == "ridge-r2"
    assert diagnose(train, torch.tensor(target), val, torch.tensor(target_val)) == found
    assert diagnose(train, target, val, target_val, metric="knn-r2")["m"].metric == "knn-r2"
    # Its name alone is no choice of another assignment.
    assert diagnose(train, target, val, target_val, metric="ridge-r2") == found
    refitted = diagnose(train, target, val, target_val, metric="ridge-r2", assign="refit")
    assert refitted["m"].train_score > found["m"].train_score
    assert diagnose(train, target, val, target_val, metric="binned-purity").options.assign == "refit"
    with pytest.raises(DataError, match="astype"):
        diagnose(train, y.astype(float), val, y_val.astype(float))


def test_several_measures_equal_those_of_single_calls(splits):
    train, y, val, y_val = splits
    both = {"a": train["m"], "b": train["m"][:, ::-1] * 2}, y, {"a": val["m"], "b": val["m"][:, ::-1]}, y_val
    kept = [both[0]["a"].copy(), both[2]["b"].copy()]
    quick = {"n_init": 1, "repeats": 2, "bootstrap": 4}
    found = separability(*both, **quick)
    assert set(found) == set(METRICS) - CONTINUOUS - LABELS - {"auxiliary-head"}  # it reads no features
    for metric in found:
        assert found[metric] == diagnose(*both, preset="held-out", metric=metric, max_samples=5000, **quick)
    assert np.array_equal(kept[0], both[0]["a"])
    assert np.array_equal(kept[1], both[2]["b"])
    assert list(separability(*both, ["knn", "purity"], **quick)) == ["knn", "purity"]
    target = separability(both[0], train["m"][:, 0], both[2], val["m"][:, 0], **quick)
    assert set(target) == CONTINUOUS
    tables = [np.stack([part % 2, part > 0], axis=1).astype(int) for part in (y, y_val)]
    labels = separability(both[0], tables[0], both[2], tables[1], **quick)
    assert set(labels) == LABELS
    with pytest.raises(UnknownNameError, match="did you mean knn"):
        separability(*both, ["knnn"])
