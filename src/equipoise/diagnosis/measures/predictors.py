"""Measures that predict the target from the features by a simple model."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from equipoise.diagnosis.measures.prediction import Predict, mean_average_precision, predicted_pair, r2
from equipoise.diagnosis.measures.scores import Array, Fitting, Labels, Score, Splits, Values
from equipoise.types import DataError

NEIGHBOURS = 5
CHUNK = 2048


def probe_pair(splits: Splits, how: Fitting) -> tuple[Score, Score]:
    """Score by the accuracy of a logistic regression (penalty C = 1)."""

    def fit(features: Array, labels: Values) -> Predict:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        with warnings.catch_warnings():
            # After a thousand steps the weights change too little to change a class.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return _of(LogisticRegression(max_iter=1000), features, labels)

    require_classes(splits, "linear-probe")
    return predicted_pair(splits, fit, how)


def centroid_pair(splits: Splits, how: Fitting) -> tuple[Score, Score]:
    """Score by the accuracy of the nearest class centroid."""

    def fit(features: Array, labels: Values) -> Predict:
        from sklearn.neighbors import NearestCentroid

        with warnings.catch_warnings():
            # Features that are constant within every class do not affect the nearest mean.
            warnings.simplefilter("ignore", UserWarning)
            return _of(NearestCentroid(), features, labels)

    require_classes(splits, "nearest-class-mean")
    return predicted_pair(splits, fit, how)


def neighbours_pair(splits: Splits, how: Fitting) -> tuple[Score, Score]:
    """Score by the majority class of the nearest neighbours; ties go to the first class."""

    def fit(features: Array, labels: Values) -> Predict:
        def predict(rows: Array) -> Values:
            near = labels.astype(np.int64)[nearest(features, rows)]
            votes = np.zeros((len(rows), int(labels.max()) + 1), dtype=np.int64)
            for column in near.T:
                votes[np.arange(len(rows)), column] += 1
            winner: Labels = votes.argmax(axis=1)
            return winner

        return predict

    return predicted_pair(splits, fit, how)


def neighbours_r2_pair(splits: Splits, how: Fitting) -> tuple[Score, Score]:
    """Score by the R^2 of the mean target of the nearest neighbours."""
    return predicted_pair(splits, _neighbour_mean, how, statistic=r2)


def neighbour_labels_pair(splits: Splits, how: Fitting) -> tuple[Score, Score]:
    """Score by the mean average precision of each label's share among the nearest neighbours."""
    return predicted_pair(splits, _neighbour_mean, how, statistic=mean_average_precision)


def _neighbour_mean(features: Array, target: Values) -> Predict:
    numbers = target.astype(np.float64)
    return lambda rows: numbers[nearest(features, rows)].mean(axis=1)


def ridge_pair(splits: Splits, how: Fitting) -> tuple[Score, Score]:
    """Score by the R^2 of a ridge regression (penalty alpha = 1)."""

    def fit(features: Array, target: Values) -> Predict:
        from sklearn.linear_model import Ridge

        return _of(Ridge(), features, target)

    return predicted_pair(splits, fit, how, statistic=r2)


def linear_labels_pair(splits: Splits, how: Fitting) -> tuple[Score, Score]:
    """Score by the mean average precision of a ridge regression (penalty alpha = 1) of each label."""

    def fit(features: Array, target: Values) -> Predict:
        from sklearn.linear_model import Ridge

        return _of(Ridge(), features, target.astype(np.float64))

    return predicted_pair(splits, fit, how, statistic=mean_average_precision)


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


def require_classes(splits: Splits, metric: str) -> None:
    """Raise if a measure is undefined for the classes of a split."""
    for split, target in (("training", splits.train_target), ("validation", splits.val_target)):
        classes = len(np.unique(target))
        if classes < 2 or (metric in ("silhouette", "davies-bouldin") and classes == len(target)):
            raise DataError(
                f"{len(target)} {split} samples are of {classes} classes, for which the metric {metric!r} "
                "is undefined; expected at least two classes with several samples each."
            )


def _of(model: Any, features: Array, target: Values) -> Predict:
    if np.issubdtype(target.dtype, np.integer) and len(np.unique(target)) == 1:
        only = target[0]  # all other classes are in the fold that was left out
        return lambda rows: np.full(len(rows), only)
    return model.fit(features, target).predict  # type: ignore[no-any-return]
