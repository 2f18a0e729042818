"""Diagnose features and labels that are given as arrays: no model, no training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from equipoise.diagnosis.estimate import diagnose_with, fitting, minmax, usual_options
from equipoise.diagnosis.features.arrays import class_indices, feature_matrix, kind_of, label_vector
from equipoise.diagnosis.measures.clusters import cluster_purity, fit_kmeans
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis
from equipoise.randomness import isolated_rng


def purity(
    features: ArrayLike,
    labels: ArrayLike,
    n_clusters: int | None = None,
    seed: int = 0,
    *,
    n_init: int = 10,
    max_iter: int = 300,
    backend: str = "scikit-learn",
) -> float:
    """Measure how well k-means clusters of the features agree with the classes (Wei et al., ECCV 2024).

    Each feature is scaled to [-1, 1], the samples are clustered, and each cluster is assigned its majority
    class. Purity is the share of samples whose class is that of their cluster.

    Args:
        features: `[N, d]`, NumPy array or tensor.
        labels: `[N]`, integers or strings.
        n_clusters: number of clusters; None means one per class in `labels`.
        seed: seed of the k-means starts.
        n_init: number of k-means starts; the best is used.
        max_iter: iteration limit of one start.
        backend: `scikit-learn` or `torch`.

    Returns:
        Purity in [0, 1], at least the share of the largest class.

    Raises:
        DataError: shapes do not match, features are not finite, labels are not classes, or there are fewer
            samples than clusters.
    """
    options = DiagnosisOptions(n_init=n_init, max_iter=max_iter, backend=backend, n_clusters=n_clusters)
    x = feature_matrix(features, "features")
    y, classes = class_indices(label_vector(labels, "labels", len(x)))
    with isolated_rng():  # importing scikit-learn draws from Python's random state
        how = fitting(options, n_clusters or len(classes), seed)
        clusters = fit_kmeans(minmax(x), how, disposable=True)
    return cluster_purity(clusters.labels, y)


def diagnose(
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    val: Mapping[str, ArrayLike],
    val_labels: ArrayLike,
    *,
    preset: str = "paper",
    **options: Any,
) -> Diagnosis:
    """Measure how well each modality has been learnt, from given features.

    Args:
        train: modality name to training features `[N, d_m]` (NumPy arrays or tensors).
        train_labels: classes `[N]` (integers or strings); a continuous target `[N]` (floating-point numbers,
            not all whole), measured by `ridge-r2` unless a metric is given; or several labels per sample
            `[N, C]` (0 and 1), measured by `linear-map`. Both measures are cross-fitted.
        val: modality name to validation features `[N_val, d_m]`.
        val_labels: classes, numbers or labels of the validation samples.
        preset: `paper`, `robust` or `held-out`, see `PRESETS`.
        **options: changes to the preset, see `DiagnosisOptions`.

    Returns:
        A mapping from modality to `LearningState`, in the order of `train`.

    Raises:
        DataError: modalities, lengths, widths or classes do not match, or features are not finite.
        UnknownNameError: a preset, an option or its value does not exist.
    """
    chosen = options_for(preset, options, train_labels, val_labels)
    return diagnose_with(chosen, train, train_labels, val, val_labels)


def options_for(
    preset: str, options: Mapping[str, Any], train_labels: ArrayLike, val_labels: ArrayLike
) -> DiagnosisOptions:
    """Return the options of a preset with changes, and a metric that suits the labels if none is given."""
    return DiagnosisOptions.preset(
        preset, **{**usual_options(kind_of(train_labels, val_labels), options), **options}
    )
