"""Measures that compare k-means clusters with the classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.measures.kmeans import Clustering, kmeans
from equipoise.diagnosis.measures.prediction import Predict, predicted_pair
from equipoise.diagnosis.measures.scores import Array, Fitting, Labels, Score, Splits, Values, share
from equipoise.diagnosis.measures.torch_kmeans import torch_kmeans
from equipoise.sharing import Blocks
from equipoise.threads import one_thread
from equipoise.types import DataError


def purity_pair(splits: Splits, how: Fitting) -> tuple[Score, Score]:
    """Score by purity (Wei et al., ECCV 2024): the share of samples of their cluster's majority class.

    A bootstrap keeps the class of each cluster: choosing the majority again in every resample would bias it
    upwards.
    """
    if how.assign == "refit":
        blocks = splits.blocks or (None, None)
        return (
            _refitted(splits.train, splits.train_target, how, splits.disposable, blocks[0]),
            _refitted(splits.val, splits.val_target, how, splits.disposable, blocks[1]),
        )

    def fit(features: Array, labels: Values) -> Predict:
        clustering = fit_kmeans(features, how)
        # k-means may have assigned a point between two centres to the farther one.
        fitted = clustering.assign(features)
        names = majorities(fitted, labels.astype(np.int64), how.n_clusters)
        return lambda rows: names[clustering.assign(rows)]

    return predicted_pair(splits, how, fit=fit)


def agreement_pair(splits: Splits, how: Fitting, *, statistic: Callable[..., float]) -> tuple[Score, Score]:
    """Compare clusters with classes. Nothing is fitted to the classes, so `cross-fit` is `transfer` here."""
    clustering = fit_kmeans(splits.train, how)
    if how.assign == "refit":
        train, val = clustering.labels, fit_kmeans(splits.val, how).labels
    else:
        train, val = clustering.assign(splits.train), clustering.assign(splits.val)
    return Score(statistic, (train, splits.train_target)), Score(statistic, (val, splits.val_target))


def _refitted(
    features: Array, target: Values, how: Fitting, disposable: bool, blocks: Blocks | None
) -> Score:
    clusters = fit_kmeans(features, how, disposable=disposable, blocks=blocks).labels
    labels: Labels = target.astype(np.int64)
    return Score(share, (majorities(clusters, labels, how.n_clusters)[clusters] == labels,))


def contingency(clusters: Labels, labels: Labels, n_clusters: int) -> NDArray[np.int64]:
    """Count the samples of each cluster and class, `[K, C]`."""
    classes = int(labels.max()) + 1
    flat = np.bincount(clusters * np.int64(classes) + labels, minlength=n_clusters * classes)
    return flat.reshape(n_clusters, classes)


def cluster_purity(clusters: Labels, labels: Labels) -> float:
    """Return `(1/N) * sum_k max_c #{i : cluster(i) = k and label(i) = c}` (purity, Wei et al., ECCV 2024)."""
    table = contingency(clusters, labels, int(clusters.max()) + 1)
    return float(table.max(axis=1).sum() / len(labels))


def mutual_information(clusters: Labels, labels: Labels) -> float:
    """Return the mutual information of clusters and classes over the mean of their entropies.

    It is computed from the contingency table: scikit-learn's function, whose checks take most of its time, is
    too slow for hundreds of bootstrap samples.
    """
    from scipy.special import entr, rel_entr

    joint = contingency(clusters, labels, int(clusters.max()) + 1) / len(labels)
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    entropies = entr(rows).sum() + entr(columns).sum()
    information = rel_entr(joint, np.outer(rows, columns)).sum()
    return float(2 * max(0.0, information) / entropies) if entropies > 0 else 1.0


def adjusted_rand_index(clusters: Labels, labels: Labels) -> float:
    """Return the Rand index of clusters and classes, corrected for chance, from their contingency table."""
    table = contingency(clusters, labels, int(clusters.max()) + 1)
    both, in_clusters, in_classes, pairs = (
        float((counts * (counts - 1)).sum())
        for counts in (table, table.sum(axis=1), table.sum(axis=0), table.sum())
    )
    by_chance = in_clusters * in_classes / max(pairs, 1.0)
    highest = (in_clusters + in_classes) / 2
    return 1.0 if highest == by_chance else (both - by_chance) / (highest - by_chance)


def majorities(clusters: Labels, labels: Labels, n_clusters: int) -> Labels:
    """Return the most frequent label `[K]` of each cluster."""
    named: Labels = contingency(clusters, labels, n_clusters).argmax(axis=1)
    return named


def fit_kmeans(
    features: Array, how: Fitting, *, disposable: bool = False, blocks: Blocks | None = None
) -> Clustering:
    """Cluster `features [N, d]` by Lloyd's algorithm from k-means++ starts.

    Equal input gives equal clusters: it runs on one thread, as the order of sums of several threads varies.
    With `disposable`, `features` are overwritten and not copied. With `blocks` they are those of this
    process, and scikit-learn's backend finds the clusters of all.

    Returns:
        The clusters: `labels [N]` of these samples, and `assign`, which finds those of others.

    Raises:
        DataError: fewer samples than clusters.
    """
    count = blocks.total if blocks else len(features)
    if count < how.n_clusters:
        raise DataError(
            f"{count} samples are fewer than the {how.n_clusters} clusters; give more samples, or a "
            "smaller n_clusters."
        )
    if how.backend == "torch":
        return torch_kmeans(features, how.n_clusters, n_init=how.n_init, max_iter=how.max_iter, seed=how.seed)
    with one_thread():
        return kmeans(
            features,
            how.n_clusters,
            n_init=how.n_init,
            max_iter=how.max_iter,
            seed=how.seed,
            in_place=disposable,
            blocks=blocks,
        )
