"""Large splits: stratified caps, caller's arrays unchanged, equal numbers with one thread or two."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.preprocessing import MinMaxScaler
from threadpoolctl import threadpool_limits

from equipoise import threads
from equipoise.diagnosis import diagnose, purity, separability
from equipoise.diagnosis.features.scaling import scale_features
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
            scaled = MinMaxScaler((-1, 1)).fit_transform(part.astype(np.float64))
            expected.append(cluster_purity(KMeans(3, random_state=0, n_init=10).fit(scaled).labels_, labels))
    assert (state.train_score, state.val_score) == tuple(expected)


def test_float32_tensors_are_clustered_in_float64_as_by_the_official_code():
    torch.manual_seed(0)
    y = torch.arange(5954) % 6
    means = torch.randn(6, 64) * 0.4
    x, x_val = (torch.relu(torch.randn(5954, 64) + means[y]) for _ in range(2))
    with threadpool_limits(1):
        scaled = MinMaxScaler((-1, 1)).fit_transform(x)  # of a tensor, float64
        clusters = KMeans(6, random_state=0, n_init=10).fit(scaled).labels_
    expected = cluster_purity(clusters, y.numpy())
    assert expected == pytest.approx(0.84985, abs=5e-6)  # of a float32 array it is 0.85136
    assert purity(x, y) == purity(x.numpy(), y) == expected
    state = diagnose({"m": x}, y, {"m": x_val[:744]}, y[:744], bootstrap=0)["m"]
    assert state.train_score == expected
    assert state == diagnose({"m": x.double()}, y, {"m": x_val[:744].double()}, y[:744], bootstrap=0)["m"]


@pytest.mark.parametrize("metric", ["purity", "nmi", "ari", "binned-purity"])
@pytest.mark.parametrize("preset", ["paper", "robust", "held-out"])
def test_clusters_do_not_depend_on_the_type_of_the_features(preset, metric):
    (x, y), (x_val, y_val) = draw(1500, 1, 24), draw(1400, 2, 24)
    x, x_val = np.maximum(x - y[:, None] * 0.8, 0), np.maximum(x_val - y_val[:, None] * 0.8, 0)
    if metric == "binned-purity":
        y, y_val = y + x[:, 0], y_val + x_val[:, 0]
    kept = x.copy()
    given, double = (
        diagnose({"m": x.astype(kind)}, y, {"m": x_val.astype(kind)}, y_val, metric=metric, preset=preset)
        for kind in (np.float32, np.float64)
    )
    assert given == double
    assert np.array_equal(x, kept)


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
