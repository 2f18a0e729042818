"""Measures by k-means: how well clusters that know no class agree with the classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from equipoise.diagnosis.measures.clustering import Array, Clustering, Labels, fit_kmeans
from equipoise.diagnosis.measures.prediction import Predict, predicted_pair
from equipoise.diagnosis.measures.scores import Fitting, Score, Splits, Values, majorities, share


def purity_pair(splits: Splits, how: Fitting) -> tuple[Score, Score]:
    """Score by purity (Wei et al., ECCV 2024): the share of samples of their cluster's majority class.

    The names of the clusters stay as they are when samples are drawn again: naming the clusters of every
    draw anew would lift each of them above the score itself.
    """
    if how.options.assign == "refit":
        return (
            _refitted(splits.train, splits.train_target, how, splits.disposable),
            _refitted(splits.val, splits.val_target, how, splits.disposable),
        )

    def fit(features: Array, labels: Values) -> Predict:
        clustering = _fit(features, how)
        # By the nearest centre: a point between two centres may have been fitted to the other one.
        fitted = clustering.assign(features)
        names = majorities(fitted, labels.astype(np.int64), how.n_clusters)
        return lambda rows: names[clustering.assign(rows)]

    return predicted_pair(splits, fit, how)


def nmi_pair(splits: Splits, how: Fitting) -> tuple[Score, Score]:
    """Score by the normalised mutual information of clusters and classes."""
    from sklearn.metrics import normalized_mutual_info_score

    return _agreement(splits, how, normalized_mutual_info_score)


def ari_pair(splits: Splits, how: Fitting) -> tuple[Score, Score]:
    """Score by the adjusted Rand index of clusters and classes."""
    from sklearn.metrics import adjusted_rand_score

    return _agreement(splits, how, adjusted_rand_score)


def _agreement(
    splits: Splits,
    how: Fitting,
    statistic: Callable[..., float],
) -> tuple[Score, Score]:
    """Compare two partitions; no cluster is named by a class, so that `cross-fit` has nothing to hold out."""
    clustering = _fit(splits.train, how)
    if how.options.assign == "refit":
        labels = clustering.labels, _fit(splits.val, how).labels
    else:
        labels = clustering.assign(splits.train), clustering.assign(splits.val)
    return Score(statistic, (labels[0], splits.train_target)), Score(
        statistic, (labels[1], splits.val_target)
    )


def _refitted(features: Array, target: Values, how: Fitting, disposable: bool) -> Score:
    clusters = _fit(features, how, disposable=disposable).labels
    labels: Labels = target.astype(np.int64)
    return Score(share, (majorities(clusters, labels, how.n_clusters)[clusters] == labels,))


def _fit(features: Array, how: Fitting, *, disposable: bool = False) -> Clustering:
    return fit_kmeans(
        features,
        how.n_clusters,
        seed=how.seed,
        n_init=how.options.n_init,
        max_iter=how.options.max_iter,
        backend=how.options.backend,
        disposable=disposable,
    )
