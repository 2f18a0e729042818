"""Simple models that predict the target from the features."""

from __future__ import annotations

from typing import Any

import numpy as np

from equipoise.diagnosis.measures.prediction import Predict
from equipoise.diagnosis.measures.scores import Array, Labels, Values

NEIGHBOURS = 5
CHUNK = 2048


def fit_probe(features: Array, labels: Values) -> Predict:
    """Fit a logistic regression (penalty C = 1)."""
    from sklearn.linear_model import LogisticRegression

    # After a thousand steps the weights change too little to change a class.
    return _fitted(LogisticRegression(max_iter=1000), features, labels)


def fit_centroids(features: Array, labels: Values) -> Predict:
    """Predict the class with the nearest centroid."""
    from sklearn.neighbors import NearestCentroid

    return _fitted(NearestCentroid(), features, labels)


def fit_ridge(features: Array, target: Values) -> Predict:
    """Fit a ridge regression (penalty alpha = 1) of numbers `[N]` or of labels `[N, C]`."""
    from sklearn.linear_model import Ridge

    model = Ridge().fit(features, target.astype(np.float64))
    # scikit-learn returns [N] for a table of one label.
    return lambda rows: model.predict(rows).reshape(len(rows), *target.shape[1:])


def fit_majority(features: Array, labels: Values) -> Predict:
    """Predict the majority class of the nearest neighbours; ties go to the first class."""
    if is_constant(features):
        return _majority(labels)

    def predict(rows: Array) -> Values:
        near = labels.astype(np.int64)[nearest(features, rows)]
        votes = np.zeros((len(rows), int(labels.max()) + 1), dtype=np.int64)
        for column in near.T:
            votes[np.arange(len(rows)), column] += 1
        winner: Labels = votes.argmax(axis=1)
        return winner

    return predict


def fit_neighbours(features: Array, target: Values) -> Predict:
    """Predict the mean target of the nearest neighbours, of labels the share of each."""
    numbers = target.astype(np.float64)
    if is_constant(features):  # all are equally near
        return lambda rows: np.repeat(numbers.mean(axis=0, keepdims=True), len(rows), axis=0)
    return lambda rows: numbers[nearest(features, rows)].mean(axis=1)


def nearest(references: Array, rows: Array) -> Labels:
    """Return the indices `[N, k]` of the `NEIGHBOURS` nearest references of each row, nearest first.

    One reference that equals the row is left out. A training sample is thus not its own neighbour, which
    would raise the training score, and the same sample in validation is treated alike: equal splits have
    equal neighbours.
    """
    from sklearn.neighbors import NearestNeighbors

    wanted = min(NEIGHBOURS + 1, len(references))
    model = NearestNeighbors(n_neighbors=wanted, algorithm="brute").fit(references)
    found = [
        _without_itself(references, part, model.kneighbors(part, return_distance=False))
        for part in (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
    ]
    indices: Labels = np.concatenate(found)
    return indices


def _without_itself(references: Array, rows: Array, candidates: Labels) -> Labels:
    count, width = candidates.shape
    if width == 1:
        return candidates
    dropped = np.full(count, width - 1)  # the farthest, unless a candidate equals the row
    for column in reversed(range(width)):
        dropped[(references[candidates[:, column]] == rows).all(axis=1)] = column
    kept: Labels = candidates[np.arange(width) != dropped[:, None]].reshape(count, width - 1)
    return kept


def _fitted(classifier: Any, features: Array, labels: Values) -> Predict:
    # All other classes may be in the fold that was left out; scikit-learn also refuses constant features.
    if len(np.unique(labels)) == 1 or is_constant(features):
        return _majority(labels)
    return classifier.fit(features, labels).predict  # type: ignore[no-any-return]


def is_constant(features: Array) -> bool:
    """Return whether all rows of `features [N, d]` are equal, as those of an encoder that has died."""
    return bool((features == features[0]).all())


def _majority(labels: Values) -> Predict:
    """Predict the most frequent class, the first of several."""
    classes, counts = np.unique(labels, return_counts=True)
    return lambda rows: np.full(len(rows), classes[counts.argmax()])
