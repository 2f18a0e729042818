"""k-means in torch: the reference's clusters if they are clear, and otherwise a local optimum."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.diagnosis import diagnose, purity
from equipoise.diagnosis.estimate import fitting
from equipoise.diagnosis.measures import torch_kmeans
from equipoise.diagnosis.measures.clusters import fit_kmeans
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.types import DataError


def fit(features, n_clusters, backend="torch", seed=0, n_init=10):
    how = fitting(DiagnosisOptions(n_init=n_init, backend=backend), n_clusters, seed)
    return fit_kmeans(features, how)


def same_partition(one, other):
    return len({*zip(one, other, strict=True)}) == len({*one}) == len({*other})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_reference_on_clear_clusters(blobs, seed, dtype):
    x, y = blobs(n=200, classes=5, separation=6.0, seed=seed)
    x = x.astype(dtype)
    assert same_partition(fit(x, 5, seed=seed).labels, fit(x, 5, "scikit-learn").labels)
    assert same_partition(fit(x, 5, seed=seed).labels, y)
    assert purity(x, y, backend="torch", seed=seed) == purity(x, y) == 1.0
    val, y_val = blobs(n=60, classes=5, separation=6.0, seed=seed + 50)
    for assign in ("refit", "transfer"):
        by = [
            diagnose({"m": x}, y, {"m": val}, y_val, backend=b, assign=assign)["m"]
            for b in ("torch", "scikit-learn")
        ]
        assert (by[0].train_score, by[0].val_score) == (by[1].train_score, by[1].val_score)


def test_features_far_from_the_origin(blobs):
    x, y = blobs(n=200, classes=4, separation=4.0)
    x = (x + 1e5).astype(np.float32)
    clustering = fit(x, 4)
    assert same_partition(clustering.labels, y)
    assert np.array_equal(clustering.assign(x), clustering.labels)


def inertia(x, labels):
    return sum(((x[labels == k] - x[labels == k].mean(0)) ** 2).sum() for k in set(labels))


def test_finds_an_optimum_as_good_as_the_reference(blobs):
    x, _ = blobs(n=300, classes=6, separation=0.5)
    clustering = fit(x, 6)
    centres = np.stack([x[clustering.labels == k].mean(0) for k in range(6)])
    distance = ((x[:, None] - centres[None]) ** 2).sum(2)
    assert np.mean(distance.argmin(1) == clustering.labels) > 0.99
    assert inertia(x, clustering.labels) <= 1.03 * inertia(x, fit(x, 6, "scikit-learn").labels)


def test_same_seed_same_clusters(blobs):
    x, _ = blobs(n=200, classes=6, separation=0.3)
    assert np.array_equal(fit(x, 6, seed=4).labels, fit(x, 6, seed=4).labels)


def test_more_clusters_than_distinct_points():
    x = np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0)
    labels = fit(x, 4).labels
    assert len({*labels[:5]} & {*labels[5:]}) == 0
    assert purity(np.ones((6, 2)), [0, 0, 0, 0, 1, 2], backend="torch") == pytest.approx(4 / 6)


@pytest.mark.parametrize("backend", ["torch", "scikit-learn"])
def test_too_few_samples(backend):
    with pytest.raises(DataError, match="3 samples are fewer than the 4 clusters"):
        fit(np.eye(3), 4, backend)


@pytest.mark.parametrize(("starts", "worse"), [(1, 1.03), (10, 1.01)])
def test_a_large_set_is_begun_on_a_sample(blobs, starts, worse, monkeypatch):
    monkeypatch.setattr(torch_kmeans, "SAMPLE", 100)
    monkeypatch.setattr(torch_kmeans, "PER_CLUSTER", 10)
    monkeypatch.setattr(torch_kmeans, "BLOCK", 60)  # several blocks, of the sample too
    x, y = blobs(n=600, classes=6, separation=5.0)
    x = x.astype(np.float32)
    assert same_partition(fit(x, 6, n_init=starts).labels, y)
    x, _ = blobs(n=600, classes=6, separation=0.7)
    found = fit(x.astype(np.float32), 6, n_init=starts)
    assert found.inertia == pytest.approx(((x - found.centers[found.labels]) ** 2).sum(), rel=1e-5)
    assert np.array_equal(found.assign(x), found.labels)
    assert found.inertia <= worse * fit(x, 6, "scikit-learn").inertia


def test_points_are_not_changed(blobs):
    x, _ = blobs(n=50, classes=3, separation=1.0)
    before = x.copy()
    fit(x, 3)
    assert np.array_equal(x, before)
