"""From features and labels to a learning state: no model, no training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from equipoise.diagnosis.clustering import fit_kmeans
from equipoise.diagnosis.estimate import estimate
from equipoise.diagnosis.inputs import class_indices, feature_matrix, label_vector, split_targets
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.diagnosis.scaling import minmax
from equipoise.diagnosis.separability import Splits, Values, cluster_purity
from equipoise.diagnosis.state import Diagnosis, LearningState
from equipoise.randomness import isolated_rng
from equipoise.types import DataError


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

    Each feature is scaled to [-1, 1], the samples are clustered, every cluster is named after the class of
    its majority, and the share of samples that carry their cluster's name is returned.

    Args:
        features: `[N, d]`, NumPy array or tensor.
        labels: `[N]`, integers or strings.
        n_clusters: number of clusters; None takes as many as there are classes in `labels`.
        seed: seed of the k-means starts.
        n_init: number of k-means starts, the best of which counts.
        max_iter: iteration limit of one start.
        backend: `scikit-learn` or `torch`.

    Returns:
        Purity in [0, 1]; never below the share of the largest class.

    Raises:
        DataError: shapes do not fit, features are not finite, labels are no classes, or there are fewer
            samples than clusters.
    """
    options = DiagnosisOptions(n_init=n_init, max_iter=max_iter, backend=backend, n_clusters=n_clusters)
    x = feature_matrix(features, "features")
    y, classes = class_indices(label_vector(labels, "labels", len(x)), "labels")
    with isolated_rng():  # merely importing scikit-learn draws from Python's stream
        clusters = fit_kmeans(
            minmax(x),
            n_clusters or len(classes),
            seed=seed,
            n_init=options.n_init,
            max_iter=options.max_iter,
            backend=options.backend,
        )
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
    """Measure how well each modality is learnt, from features in hand.

    Args:
        train: modality name to training features `[N, d_m]` (NumPy arrays or tensors).
        train_labels: classes `[N]` (integers or strings; numbers for the metrics of continuous targets).
        val: modality name to validation features `[N_val, d_m]`.
        val_labels: classes `[N_val]`.
        preset: `paper`, or `robust` (subsets of one size, five repeats, an interval for the gap).
        **options: changes to the preset, see `DiagnosisOptions`.

    Returns:
        A mapping from modality to `LearningState`, in the order of `train`.

    Raises:
        DataError: modalities, lengths, widths or classes do not fit, or features are not finite.
        UnknownNameError: a preset, an option or its value does not exist.
    """
    return diagnose_with(DiagnosisOptions.preset(preset, **options), train, train_labels, val, val_labels)


@isolated_rng()  # merely importing scikit-learn draws from Python's stream
def diagnose_with(
    options: DiagnosisOptions,
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    val: Mapping[str, ArrayLike],
    val_labels: ArrayLike,
) -> Diagnosis:
    """Measure learning states with given options; see `diagnose`."""
    if not train:
        raise DataError("no modality was given; expected at least one entry of name and features.")
    if set(train) != set(val):
        raise DataError(
            f"train has the modalities {sorted(train)}, val has {sorted(val)}; expected the same names."
        )
    targets = split_targets(train_labels, val_labels, options)
    return Diagnosis(
        {name: _learning_state(name, train[name], val[name], targets, options) for name in train}, options
    )


def _learning_state(
    name: str, train: ArrayLike, val: ArrayLike, targets: list[Values], options: DiagnosisOptions
) -> LearningState:
    x_train, x_val = feature_matrix(train, f"train[{name!r}]"), feature_matrix(val, f"val[{name!r}]")
    for split, x, y in (("train", x_train, targets[0]), ("val", x_val, targets[1])):
        if len(x) != len(y):
            raise DataError(
                f"{split}[{name!r}] has {len(x)} rows, but there are {len(y)} {split} labels; "
                "expected one row of features for each label."
            )
    if x_train.shape[1] != x_val.shape[1]:
        raise DataError(
            f"{name!r} has {x_train.shape[1]} features in train and {x_val.shape[1]} in val; "
            "expected the same width."
        )
    # A fit on one precision does not take the other.
    precision = np.promote_types(x_train.dtype, x_val.dtype)
    x_train, x_val = x_train.astype(precision, copy=False), x_val.astype(precision, copy=False)
    return estimate(name, Splits(x_train, targets[0], x_val, targets[1]), options)
