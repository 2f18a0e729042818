"""How well the classes are told apart by features: one measure, two splits, a pair of scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.clustering import Array, Clustering, Labels, fit_kmeans
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.types import DataError

NEIGHBOURS = 5
NEED_CLASSES = ("silhouette", "nearest-class-mean", "linear-probe")
Values = NDArray[np.generic]


@dataclass(frozen=True)
class Score:
    """A score together with what it was computed from, so that it can be resampled.

    Attributes:
        statistic: function of the columns that gives the score.
        columns: arrays of one entry per sample, for instance clusters and labels.
    """

    statistic: Callable[..., float]
    columns: tuple[Values, ...]

    @property
    def value(self) -> float:
        """The score of all samples."""
        return float(self.statistic(*self.columns))

    def resampled(self, generator: np.random.Generator) -> float:
        """The score of a bootstrap sample, the fitted clusters or classifiers kept as they are."""
        count = len(self.columns[0])
        rows = generator.integers(count, size=count)
        return float(self.statistic(*(column[rows] for column in self.columns)))


@dataclass(frozen=True)
class Splits:
    """Scaled features `[N, d]` and targets `[N]` of both splits."""

    train: Array
    train_target: Values
    val: Array
    val_target: Values


def cluster_purity(clusters: Labels, labels: Labels) -> float:
    """Return `(1/N) * sum_k max_c #{i : cluster(i) = k and label(i) = c}` (purity, Wei et al., ECCV 2024)."""
    table = np.zeros((int(clusters.max()) + 1, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(table, (clusters, labels), 1)
    return float(table.max(axis=1).sum() / len(labels))


def score_pair(splits: Splits, n_clusters: int, options: DiagnosisOptions, seed: int) -> tuple[Score, Score]:
    """Score both splits by `options.metric`; see `DiagnosisOptions` for `assign`.

    A classifier that is transferred scores its own training samples with themselves among the references:
    two equal splits then have equal scores under every measure.
    """
    if options.metric in ("purity", "binned-purity", "nmi", "ari"):
        return _clustered(splits, n_clusters, options, seed)
    if options.metric in NEED_CLASSES:
        _require_classes(splits, options.metric)
    if options.metric == "silhouette":
        return _silhouette(splits.train, splits.train_target), _silhouette(splits.val, splits.val_target)
    statistic = _r2 if options.metric == "ridge-r2" else _accuracy
    predict = _predictor(options.metric, splits.train, splits.train_target)
    train = Score(statistic, (predict(splits.train), splits.train_target))
    if options.assign == "refit":
        predict = _predictor(options.metric, splits.val, splits.val_target)
    return train, Score(statistic, (predict(splits.val), splits.val_target))


def _clustered(splits: Splits, n_clusters: int, options: DiagnosisOptions, seed: int) -> tuple[Score, Score]:
    def fit(features: Array) -> Clustering:
        return fit_kmeans(
            features,
            n_clusters,
            seed=seed,
            n_init=options.n_init,
            max_iter=options.max_iter,
            backend=options.backend,
        )

    statistic = _cluster_statistic(options.metric)
    clustering = fit(splits.train)
    if options.assign == "refit":
        train = Score(statistic, (clustering.labels, splits.train_target))
        return train, Score(statistic, (fit(splits.val).labels, splits.val_target))
    # Both splits by the nearest centre: a point between two centres may have been fitted to the other one.
    fitted, assigned = clustering.assign(splits.train), clustering.assign(splits.val)
    train = Score(statistic, (fitted, splits.train_target))
    if options.metric in ("nmi", "ari"):
        return train, Score(statistic, (assigned, splits.val_target))
    named = _majorities(fitted, splits.train_target.astype(np.int64), n_clusters)
    return train, Score(_accuracy, (named[assigned], splits.val_target))


def _cluster_statistic(metric: str) -> Callable[..., float]:
    if metric in ("purity", "binned-purity"):
        return cluster_purity
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return adjusted_rand_score if metric == "ari" else normalized_mutual_info_score  # type: ignore[no-any-return]


def _majorities(clusters: Labels, labels: Labels, n_clusters: int) -> Labels:
    """Return the most frequent label `[K]` of each cluster."""
    table = np.zeros((n_clusters, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(table, (clusters, labels), 1)
    named: Labels = table.argmax(axis=1)
    return named


def binned(splits: Splits, bins: int) -> Splits:
    """Cut a continuous target into quantile bins of the training split; ties make for fewer bins."""
    edges = np.unique(np.quantile(splits.train_target.astype(np.float64), np.linspace(0, 1, bins + 1)[1:-1]))
    return Splits(
        splits.train,
        np.searchsorted(edges, splits.train_target.astype(np.float64), side="right"),
        splits.val,
        np.searchsorted(edges, splits.val_target.astype(np.float64), side="right"),
    )


def _predictor(metric: str, features: Array, target: Values) -> Callable[[Array], Values]:
    if metric == "knn":
        from sklearn.neighbors import KNeighborsClassifier

        model = KNeighborsClassifier(min(NEIGHBOURS, len(features)))
    elif metric == "nearest-class-mean":
        from sklearn.neighbors import NearestCentroid

        model = NearestCentroid()
    elif metric == "linear-probe":
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(max_iter=1000)
    else:
        from sklearn.linear_model import Ridge

        model = Ridge()
    return model.fit(features, target).predict  # type: ignore[no-any-return]


def _require_classes(splits: Splits, metric: str) -> None:
    for split, target in (("training", splits.train_target), ("validation", splits.val_target)):
        classes = len(np.unique(target))
        if classes < 2 or (metric == "silhouette" and classes == len(target)):
            raise DataError(
                f"{len(target)} {split} samples are of {classes} classes, by which the metric {metric!r} is "
                "not defined; expected at least two classes with several samples each."
            )


def _silhouette(features: Array, labels: Values) -> Score:
    from sklearn.metrics import silhouette_samples

    return Score(_mean, (silhouette_samples(features, labels),))


def _mean(values: Values) -> float:
    return float(np.mean(values.astype(np.float64)))


def _accuracy(predicted: Values, labels: Values) -> float:
    return float(np.mean(predicted == labels))


def _r2(predicted: Values, target: Values) -> float:
    from sklearn.metrics import r2_score

    return float(r2_score(target, predicted))
