"""k-means gives the clusters of scikit-learn, on any points and by every path."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from blocks_in_threads import in_threads
from equipoise.diagnosis.measures import kmeans as module
from equipoise.diagnosis.measures import kmeans_starts
from equipoise.diagnosis.measures.kmeans import kmeans
from equipoise.diagnosis.measures.kmeans_few import are_few
from equipoise.sharing import Blocks


def reference(points, n_clusters, *, seed, n_init=3, max_iter=300):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct points than clusters
        return KMeans(n_clusters, n_init=n_init, max_iter=max_iter, random_state=seed).fit(points)


def assert_same(points, n_clusters, *, seed=0, n_init=3, max_iter=300):
    ours = kmeans(points, n_clusters, n_init=n_init, max_iter=max_iter, seed=seed)
    theirs = reference(points, n_clusters, seed=seed, n_init=n_init, max_iter=max_iter)
    np.testing.assert_array_equal(ours.labels, theirs.labels_)
    np.testing.assert_allclose(
        ours.centers, theirs.cluster_centers_, rtol=0, atol=1e-9 * np.abs(points).max()
    )
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-9, abs=1e-18)


@pytest.fixture(params=["double", "single", "at once"])
def path(request, monkeypatch):
    """Compute in double precision, compare in single precision too as of many points, or take all at once."""
    monkeypatch.setattr(kmeans_starts, "LARGE", 0 if request.param == "single" else 10**9)
    monkeypatch.setattr(kmeans_starts, "ROWS", 50)  # several steps
    monkeypatch.setattr(module, "are_few", lambda *_: request.param == "at once")


def blobs(n, d, classes, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(classes, d))[rng.integers(classes, size=n)] * spread + rng.normal(size=(n, d))


@pytest.mark.parametrize(
    ("n", "d", "classes", "spread"),
    [
        (200, 5, 4, 3.0),
        (300, 40, 12, 0.5),
        (150, 2, 30, 1.0),
        (60, 3, 60, 1.0),
        (90, 8, 1, 1.0),
        (400, 16, 2, 0.0),
    ],
)
@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.usefixtures("path")
def test_clusters_are_those_of_scikit_learn(n, d, classes, spread, seed):
    assert_same(blobs(n, d, classes, seed, spread), classes, seed=seed)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_stopped_early_they_are_too(max_iter):
    assert_same(blobs(250, 10, 8, 1, 0.3), 8, max_iter=max_iter, n_init=1)


@pytest.mark.usefixtures("path")
def test_points_far_from_the_origin_and_of_any_size():
    points = blobs(200, 6, 5, 2)
    assert_same(points + 1e4, 5)
    assert_same(points * 1e-12, 5)
    assert_same(points * 1e12, 5)
    for size in (1e-40, 1e40):  # whose squares single precision cannot hold
        found = kmeans(points * size, 5, n_init=3, max_iter=300, seed=0)
        np.testing.assert_array_equal(found.labels, reference(points * size, 5, seed=0).labels_)


@pytest.mark.usefixtures("path")
def test_centres_that_single_precision_cannot_tell_apart():
    # Points between two centres, nearer to one of them by less than the rounding of squared distances.
    offsets = 1e-8 * np.random.default_rng(0).normal(size=160)
    points = np.concatenate([[-1.0, 1.0], offsets])[:, None]
    cloud = kmeans_starts.Cloud(points, Blocks.alone(len(points)))
    steps = module._Lloyd(cloud, np.array([[-1.0], [1.0]]))
    steps._assign(np.arange(162))
    np.testing.assert_array_equal(steps.labels[2:], offsets > 0)
    assert (steps.upper + cloud.slack >= np.abs(cloud.points[:, 0] - (2 * steps.labels - 1))).all()


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_fewer_distinct_points_than_clusters(distinct):
    points = np.repeat(blobs(distinct, 4, 1, 0), 20, axis=0)
    found = kmeans(points, 4, n_init=2, max_iter=300, seed=0)
    assert len(np.unique(found.labels)) == distinct
    assert found.inertia == pytest.approx(0, abs=1e-20)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 60),
    d=st.integers(1, 5),
    share=st.floats(0, 1),
    seed=st.integers(0, 999),
    levels=st.integers(2, 9),
    way=st.sampled_from(["double", "single", "at once"]),
)
def test_on_grids_full_of_ties_the_clusters_are_as_good(n, d, share, seed, levels, way):
    """Where several centres are equally near, rounding decides, so that the choice may differ."""
    points = np.random.default_rng(seed).integers(0, levels, size=(n, d)).astype(np.float64)
    # With fewer distinct points scikit-learn's own clusters are arbitrary.
    n_clusters = 1 + int(share * (len(np.unique(points, axis=0)) - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kmeans_starts, "LARGE", 0 if way == "single" else 10**9)
        patch.setattr(module, "are_few", lambda *_: way == "at once")
        found = kmeans(points, n_clusters, n_init=2, max_iter=300, seed=seed)
    assert found.labels.shape == (n,)
    for k in np.unique(found.labels):
        np.testing.assert_allclose(found.centers[k], points[found.labels == k].mean(axis=0), atol=1e-9)
    away = ((points[:, None] - found.centers) ** 2).sum(axis=2)
    own = away[np.arange(n), found.labels]
    np.testing.assert_allclose(own, away.min(axis=1), atol=1e-9)
    assert found.inertia == pytest.approx(own.sum(), abs=1e-9)
    np.testing.assert_allclose(away[np.arange(n), found.assign(points)], own, atol=1e-9)


def test_only_points_that_may_be_overwritten_are():
    points = blobs(100, 4, 3, 0)
    kept = points.copy()
    found = kmeans(points, 3, n_init=2, max_iter=300, seed=0)
    np.testing.assert_array_equal(points, kept)
    again = kmeans(points, 3, n_init=2, max_iter=300, seed=0, in_place=True)
    np.testing.assert_array_equal(found.labels, again.labels)
    assert not np.array_equal(points, kept)


def test_equal_clusterings_have_one_name():
    def named(*labels):
        return module.Clustering(np.array(labels), np.zeros((3, 1)), 0.0)

    alone = Blocks.alone(4)
    assert module._same(named(0, 0, 1, 2), named(2, 2, 0, 1), alone)
    assert not module._same(named(0, 0, 1, 2), named(2, 1, 0, 1), alone)
    assert not module._same(named(0, 0, 1, 1), named(0, 0, 1, 2), alone)
    one, two = in_threads(  # equal in each block, and not in all
        [2, 2], lambda blocks: module._same(named(0, blocks.rank), named(0, 0), blocks)
    )
    assert not one
    assert not two


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("sizes", [[150, 150], [3, 200, 1, 96]])
def test_blocks_of_several_processes_give_the_clusters_of_one(sizes):
    points = blobs(300, 6, 7, 4, 0.8)
    alone = kmeans(points, 7, n_init=4, max_iter=300, seed=3)
    found = in_threads(
        sizes, lambda blocks: kmeans(points[blocks.own], 7, n_init=4, max_iter=300, seed=3, blocks=blocks)
    )
    for one in found:
        np.testing.assert_array_equal(one.labels, alone.labels)
        np.testing.assert_array_equal(one.centers, found[0].centers)
        np.testing.assert_allclose(one.centers, alone.centers, rtol=0, atol=1e-12)
        assert one.inertia == pytest.approx(alone.inertia, rel=1e-12)


def test_in_blocks_too_points_may_coincide():
    points = np.repeat(blobs(3, 4, 1, 0), 20, axis=0)
    found = in_threads(
        [30, 30], lambda blocks: kmeans(points[blocks.own], 4, n_init=2, max_iter=9, seed=0, blocks=blocks)
    )
    alone = kmeans(points, 4, n_init=2, max_iter=9, seed=0)
    for one in found:
        np.testing.assert_array_equal(one.labels, alone.labels)


@pytest.mark.usefixtures("path")
def test_a_point_between_two_centres_does_not_change_after_the_last_move():
    points = np.array([[0.0], [2.0], [0.0], [1.0], [3.0]])
    found = kmeans(points, 2, n_init=2, max_iter=300, seed=81)
    assert found.inertia == pytest.approx(7 / 6)
    np.testing.assert_allclose(np.sort(found.centers[:, 0]), [1 / 3, 2.5])


def test_all_starts_go_at_once_for_few_points_and_centres_only():
    assert are_few(832, 7, 10)
    assert not are_few(832, 7, 1)
    assert not are_few(100_000, 7, 10)
    assert not are_few(832, 30, 10)
