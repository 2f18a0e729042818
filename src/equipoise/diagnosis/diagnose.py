"""From features and labels to learning states, without a model and without training."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from equipoise.diagnosis.estimate import estimate, minmax
from equipoise.diagnosis.features.arrays import (
    check_modalities,
    class_indices,
    class_indices_of_splits,
    feature_matrix,
    feature_pair,
    kind_of,
    label_table,
    label_vector,
)
from equipoise.diagnosis.measures.clusters import cluster_purity, fit_kmeans
from equipoise.diagnosis.measures.scores import Splits, Values
from equipoise.diagnosis.options import CONTINUOUS, LABELS, DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis, LearningState
from equipoise.randomness import isolated_rng
from equipoise.threads import map_on_single_threads
from equipoise.types import DataError

USUAL_MEASURES: Final = {"continuous": "ridge-r2", "labels": "linear-map"}
"""Default measures of targets that are not classes, for which purity is not defined."""


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
        how = options.fitting(n_clusters or len(classes), seed)
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


def usual_options(kind: str, options: Collection[str]) -> dict[str, Any]:
    """Return the default metric and assignment for a target of this kind, if `options` give no metric.

    The paper covers classes only. A regression that scores its own training samples measures their number
    rather than the encoder, so the default is cross-fitted.
    """
    if kind not in USUAL_MEASURES or "metric" in options:
        return {}
    usual = {"metric": USUAL_MEASURES[kind], "assign": "cross-fit"}
    return {name: value for name, value in usual.items() if name not in options}


def diagnose_with(
    options: DiagnosisOptions,
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    val: Mapping[str, ArrayLike],
    val_labels: ArrayLike,
    *,
    disposable: bool = False,
) -> Diagnosis:
    """Measure learning states with given options; see `diagnose`.

    With `disposable` the features may be overwritten, for instance if the mapping reads them from a file.
    """
    check_modalities(train, val)
    targets = split_targets(train_labels, val_labels, options)

    def measured(name: str) -> LearningState:
        return estimate(name, splits_of(name, train[name], val[name], targets, disposable), options)

    with isolated_rng():  # importing scikit-learn draws from Python's random state
        states = map_on_single_threads(measured, list(train), parallel=options.backend != "torch")
    return Diagnosis(dict(zip(train, states, strict=True)), options)


def splits_of(
    modality: str, train: ArrayLike, val: ArrayLike, targets: tuple[Values, Values], disposable: bool
) -> Splits:
    """Check the features of one modality against the targets, and return both splits in one precision."""
    x, x_val = feature_pair(modality, train, val, *targets)
    # A model fitted in one precision does not accept the other.
    precision = np.promote_types(x.dtype, x_val.dtype)
    x, x_val = x.astype(precision, copy=False), x_val.astype(precision, copy=False)
    return Splits(x, targets[0], x_val, targets[1], disposable)


def split_targets(
    train_labels: ArrayLike, val_labels: ArrayLike, options: DiagnosisOptions
) -> tuple[Values, Values]:
    """Return the targets of both splits: class indices, numbers, or tables of labels, as the metric needs."""
    if options.metric in LABELS:
        return label_table(train_labels, "train labels"), label_table(val_labels, "val labels")
    y, y_val = label_vector(train_labels, "train labels"), label_vector(val_labels, "val labels")
    if options.metric in CONTINUOUS:
        if not all(np.issubdtype(part.dtype, np.number) and np.isfinite(part).all() for part in (y, y_val)):
            raise DataError(f"the metric {options.metric!r} expects finite numbers as target.")
        return y, y_val
    return class_indices_of_splits(y, y_val, allow_missing=options.missing_classes == "allow")[:2]
