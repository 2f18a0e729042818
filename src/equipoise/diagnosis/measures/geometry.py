"""Measures from distances between features; nothing is fitted."""

from __future__ import annotations

import numpy as np

from equipoise.diagnosis.measures.scores import Array, Score, Values, mean

MEGABYTES = 8
"""Memory of one chunk of distances of the silhouette."""


def silhouette(features: Array, labels: Values) -> Score:
    """Score by the mean silhouette of the classes (Rousseeuw, 1987)."""
    from sklearn import config_context
    from sklearn.metrics import silhouette_samples

    with config_context(working_memory=MEGABYTES):
        return Score(mean, (silhouette_samples(features, labels),))


def davies_bouldin(features: Array, labels: Values) -> Score:
    """Score by the index of Davies and Bouldin (1979); lower is more separable.

    `mean_i max_j (s_i + s_j) / |c_i - c_j|` with `c` the class means and `s` the mean distance to them.
    """
    from scipy.spatial.distance import cdist

    classes, index = np.unique(labels, return_inverse=True)
    counts = np.bincount(index)
    centroids = np.empty((len(classes), features.shape[1]))
    distance = np.empty(len(features))
    for label in range(len(classes)):
        inside = features[index == label]
        centroids[label] = inside.mean(axis=0, dtype=np.float64)
        distance[index == label] = cdist(inside, centroids[label : label + 1])[:, 0]
    apart = cdist(centroids, centroids)
    np.fill_diagonal(apart, np.inf)

    def statistic(distance: Values, index: Values) -> float:
        sizes = np.bincount(index.astype(np.int64), minlength=len(counts))
        present = sizes > 0  # a resample may lack a class
        total = np.bincount(
            index.astype(np.int64), weights=distance.astype(np.float64), minlength=len(counts)
        )
        spread = total / np.maximum(sizes, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = (spread[:, None] + spread) / apart
        # Classes with equal means are not separable, even if all their samples are equal.
        ratio[np.isnan(ratio)] = np.inf
        return float(ratio[np.ix_(present, present)].max(axis=1).mean())

    return Score(statistic, (distance, index))
