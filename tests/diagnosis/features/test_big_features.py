"""Large splits: stratified caps, caller's arrays unchanged, equal numbers with one thread or two."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.preprocessing import MinMaxScaler
from threadpoolctl import threadpool_limits

from equipoise import threads
from equipoise.diagnosis import diagnose, separability
from equipoise.diagnosis.estimate import scale_features
from equipoise.diagnosis.measures.clusters import cluster_purity


def draw(n, seed, d=6):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return (rng.normal(size=(n, d)) + y[:, None]).astype(np.float32), y


@pytest.mark.parametrize("metric", ["knn", "silhouette"])
def test_pairwise_measures_score_a_subset_and_report_it(metric):
    (x, y), (x_val, y_val) = draw(7000, 1), draw(900, 2)
    state = diagnose({"m": x}, y, {"m": x_val}, y_val, metric=metric, bootstrap=10)["m"]
    assert (state.n_train, state.n_val) == (5000, 900)
    more = diagnose({"m": x}, y, {"m": x_val}, y_val, metric=metric, bootstrap=10, max_samples=6000)["m"]
    assert more.n_train == 6000


def test_several_measures_score_a_subset_by_default():
    (x, y), (x_val, y_val) = draw(5600, 1), draw(60, 2)
    splits = {"m": x}, y, {"m": x_val}, y_val
    found = separability(*splits, ["nearest-class-mean"])["nearest-class-mean"]["m"]
    assert (found.n_train, found.n_val) == (5000, 60)
    whole = separability(*splits, ["nearest-class-mean"], max_samples=None)["nearest-class-mean"]["m"]
    assert whole.n_train == 5600


def test_two_modalities_in_parallel_give_the_same_numbers(monkeypatch):
    (x, y), (x_val, y_val) = draw(3000, 1, 40), draw(800, 2, 40)
    splits = {"a": x, "b": x**2, "c": x[:, :9]}, y, {"a": x_val, "b": x_val**2, "c": x_val[:, :9]}, y_val
    kept = x.copy()
    together = [diagnose(*splits, repeats=2, n_init=2, assign=assign) for assign in ("refit", "cross-fit")]
    assert np.array_equal(x, kept)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 1)
    alone = [diagnose(*splits, repeats=2, n_init=2, assign=assign) for assign in ("refit", "cross-fit")]
    assert together == alone


def test_the_paper_preset_equals_scikit_learn_to_the_last_bit():
    (x, y), (x_val, y_val) = draw(2500, 1, 24), draw(500, 2, 24)
    state = diagnose({"m": x, "n": x}, y, {"m": x_val, "n": x_val}, y_val)["n"]
    expected = []
    for part, labels in ((x, y), (x_val, y_val)):
        with threadpool_limits(1):
            scaled = MinMaxScaler((-1, 1)).fit_transform(part)
            expected.append(cluster_purity(KMeans(3, random_state=0, n_init=10).fit(scaled).labels_, labels))
    assert (state.train_score, state.val_score) == tuple(expected)


@pytest.mark.parametrize("scaler", ["minmax-per-split", "minmax-train", "standard-train", "l2"])
def test_scaling_in_place_equals_scaling(scaler):
    (x, _), (x_val, _) = draw(9000, 1), draw(70, 2)
    expected = scale_features(x, x_val, scaler)
    own = x.copy(), x_val.copy()
    found = scale_features(*own, scaler, in_place=True)
    for one, other, given in zip(found, expected, own, strict=True):
        assert np.array_equal(one, other)
        assert np.shares_memory(one, given)
        assert one.dtype == np.float32
