"""Purity against numbers counted by hand and against a slow definition."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.preprocessing import MinMaxScaler

from equipoise.diagnosis import purity
from equipoise.diagnosis.measures.clusters import cluster_purity
from equipoise.types import DataError, UnknownNameError, UsageError


def slow_purity(features, labels, n_clusters=None, seed=0):
    labels = list(labels)
    scaled = MinMaxScaler((-1, 1)).fit_transform(np.asarray(features))
    clusters = KMeans(n_clusters or len(set(labels)), random_state=seed, n_init=10).fit(scaled).labels_
    return brute_force(clusters, labels)


def brute_force(clusters, labels):
    agreeing = 0
    for cluster in set(clusters):
        inside = [labels[i] for i in range(len(labels)) if clusters[i] == cluster]
        agreeing += max(inside.count(label) for label in set(inside))
    return agreeing / len(labels)


TOY = np.array([[0.0, 5], [0.1, 5], [0.2, 5], [10.0, 5], [10.1, 5], [10.2, 5], [10.3, 5]])


def test_toy_example_counted_by_hand():
    # Left: a a b, so 2 of 3. Right: b b b a, so 3 of 4.
    assert purity(TOY, list("aabbbba")) == pytest.approx(5 / 7)
    # Three classes give three clusters, but two of them stay on one side of the cut.
    assert purity(TOY, [0, 0, 0, 1, 1, 1, 1]) == 1.0
    assert purity(TOY, [0, 1, 0, 1, 0, 1, 0], n_clusters=7) == 1.0
    assert purity(TOY, [0, 1, 0, 1, 0, 1, 0], n_clusters=1) == pytest.approx(4 / 7)


@pytest.mark.parametrize("seed", [0, 1, 2, 7, 123])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_slow_definition(blobs, seed, dtype):
    features, labels = blobs(n=200, classes=5, separation=0.5, seed=seed)
    features = features.astype(dtype)
    expected = slow_purity(features, labels, seed=seed)
    assert 0.3 < expected < 0.99
    assert purity(features, labels, seed=seed) == pytest.approx(expected, abs=1e-6)
    assert purity(torch.tensor(features), torch.tensor(labels), seed=seed) == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize("n_clusters", [1, 2, 5, 11, None])
def test_equals_the_slow_definition_for_any_number_of_clusters(blobs, n_clusters):
    features, labels = blobs(n=150, classes=4, separation=0.4)
    expected = slow_purity(features, labels, n_clusters)
    assert purity(features, labels, n_clusters) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_measured_in_float32(blobs, dtype):
    features, labels = blobs(n=150, classes=4)
    half = torch.tensor(features).to(dtype)
    assert purity(half, labels) == pytest.approx(slow_purity(half.float().numpy(), labels), abs=1e-6)


def test_tensors_with_gradients_and_integer_features(blobs):
    features, labels = blobs()
    attached = torch.tensor(features, requires_grad=True)
    assert purity(attached, labels) == pytest.approx(slow_purity(features, labels), abs=1e-6)
    counts = (features * 10).astype(np.int64)
    assert purity(counts, labels) == pytest.approx(slow_purity(counts.astype(np.float32), labels), abs=1e-6)


@pytest.mark.parametrize("kind", [str, np.object_, np.int8, np.uint8])
def test_labels_with_any_names(blobs, kind):
    features, labels = blobs(classes=3)
    names = np.array(["zebra", "ant", "mule"]) if kind in (str, np.object_) else np.array([7, 100, 3])
    renamed = names[labels].astype(kind)
    assert purity(features, renamed) == pytest.approx(slow_purity(features, labels), abs=1e-6)
    assert purity(features, renamed.tolist()) == pytest.approx(slow_purity(features, labels), abs=1e-6)


def test_same_input_gives_the_same_bits(blobs):
    features, labels = blobs(n=200, classes=6, separation=0.3)
    assert len({purity(features, labels, seed=3) for _ in range(3)}) == 1


def test_the_largest_class_is_the_lower_bound(blobs):
    features, _ = blobs(n=100)
    labels = np.r_[np.zeros(70, int), np.ones(20, int), np.full(10, 2)]
    noise = np.random.default_rng(0).permutation(labels)
    assert purity(features, noise) >= 0.7
    assert purity(features, np.zeros(100, int)) == 1.0


clusterings = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 6), min_size=n, max_size=n),
        st.lists(st.integers(0, 5), min_size=n, max_size=n),
    )
)


@given(clusterings)
@settings(deadline=None, max_examples=200)
def test_cluster_purity_equals_brute_force(drawn):
    clusters, labels = map(np.array, drawn)
    value = cluster_purity(clusters, labels)
    assert value == pytest.approx(brute_force(clusters.tolist(), labels.tolist()), abs=1e-12)
    assert max(Counter(labels.tolist()).values()) / len(labels) <= value + 1e-12
    assert 0 < value <= 1
    assert cluster_purity(np.arange(len(labels)), labels) == 1  # every sample is a cluster


@given(clusterings, st.permutations(range(7)), st.permutations(range(6)))
@settings(deadline=None, max_examples=100)
def test_cluster_purity_ignores_the_names_of_clusters_and_classes(drawn, clusters_to, labels_to):
    clusters, labels = map(np.array, drawn)
    renamed = cluster_purity(np.array(clusters_to)[clusters], np.array(labels_to)[labels])
    assert renamed == cluster_purity(clusters, labels)


@pytest.mark.parametrize(
    ("features", "labels", "options", "message"),
    [
        (np.zeros((4, 2, 2)), [0, 1, 0, 1], {}, r"shape \[4, 2, 2\]"),
        (np.zeros((0, 2)), [], {}, "empty"),
        (np.zeros((4, 0)), [0, 1, 0, 1], {}, r"shape \[4, 0\]"),
        (np.zeros((4, 2)), [0, 1, 0], {}, "4 rows of features and 3 labels"),
        (np.zeros((4, 2)), [[0], [1], [2], [1]], {}, r"shape \[4, 1\]"),
        (np.array([[0.0], [1], [np.nan], [np.inf]]), [0, 1, 0, 1], {}, "2 of 4 rows, first in row 2"),
        (np.array([["a"], ["b"]]), [0, 1], {}, "expected numbers"),
        (np.zeros((4, 2), complex), [0, 1, 0, 1], {}, "expected numbers"),
        (np.zeros((4, 2)), [0.0, 1.0, 0.0, 1.0], {}, "astype"),
        (np.zeros((4, 2)), np.array([0, "a", None, 1], object), {}, "expected integers or strings"),
        (np.zeros((4, 2)), [0, 1, 2, 3], {"n_clusters": 5}, "4 samples are fewer than the 5 clusters"),
    ],
)
def test_invalid_input_is_named(features, labels, options, message):
    with pytest.raises(DataError, match=message):
        purity(features, labels, **options)


def test_invalid_options_are_named():
    with pytest.raises(UnknownNameError, match="did you mean scikit-learn"):
        purity(TOY, [0, 1] * 3 + [0], backend="scikitlearn")
    for option in ("n_clusters", "n_init", "max_iter"):
        with pytest.raises(UsageError, match=f"{option} is 0"):
            purity(TOY, [0, 1] * 3 + [0], **{option: 0})
    with pytest.raises(UsageError, match="one shape"):
        purity([[0.0, 1.0], [2.0]], [0, 1])
