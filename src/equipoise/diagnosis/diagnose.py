"""Diagnose features and labels that are given as arrays: purity, learning states, several measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike

from equipoise.diagnosis.estimate import diagnose_with, estimate, fitting, usual_options
from equipoise.diagnosis.features.arrays import (
    check_modalities,
    class_indices,
    feature_matrix,
    in_range,
    kind_of,
    label_vector,
    split_targets,
    splits_of,
)
from equipoise.diagnosis.features.scaling import minmax
from equipoise.diagnosis.measures.catalogue import CAP, MEASURES
from equipoise.diagnosis.measures.clusters import cluster_purity, fit_kmeans
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis, LearningState
from equipoise.keywords import DiagnosisKeywords
from equipoise.randomness import isolated_rng
from equipoise.threads import map_on_single_threads
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

    Each feature is scaled to [-1, 1], the samples are clustered, and each cluster is assigned its majority
    class. Purity is the share of samples whose class is that of their cluster. scikit-learn clusters in
    float64, whatever the type of the features.

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
        x, _ = in_range(x, x[:1], by_feature=True)
        if backend != "torch":  # as scikit-learn converts the tensors of the official code
            x = x.astype(np.float64, copy=False)
        clusters = fit_kmeans(minmax(x), how, disposable=True)
    return cluster_purity(clusters.labels, y)


def diagnose(
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    val: Mapping[str, ArrayLike],
    val_labels: ArrayLike,
    *,
    preset: str = "paper",
    **options: Unpack[DiagnosisKeywords],
) -> Diagnosis:
    """Measure how well each modality has been learnt, from given features.

    Args:
        train: modality name to training features `[N, d_m]` (NumPy arrays or tensors).
        train_labels: classes `[N]` (integers or strings; for two also one column `[N, 1]` of 0 and 1); a
            continuous target `[N]` (floating-point numbers, not all whole), measured by `ridge-r2` unless a
            metric is given; or several labels per sample `[N, C]` (0 and 1), measured by `linear-map`. Both
            measures are cross-fitted.
        val: modality name to validation features `[N_val, d_m]`.
        val_labels: classes, numbers or labels of the validation samples.
        preset: `paper`, `robust` or `held-out`, see `PRESETS`.
        **options: changes to the preset, see `DiagnosisOptions`.

    Returns:
        A mapping from modality to `LearningState`, in the order of `train`.

    Raises:
        DataError: modalities, lengths, widths or classes do not match, features are not finite, or labels
            are one-hot and no metric is given.
        UnknownNameError: a preset, an option or its value does not exist.
    """
    DiagnosisOptions.check_call(diagnose, preset, options)
    chosen = options_for(preset, options, train_labels, val_labels)
    return diagnose_with(chosen, train, train_labels, val, val_labels)


def options_for(
    preset: str, options: Mapping[str, Any], train_labels: ArrayLike, val_labels: ArrayLike
) -> DiagnosisOptions:
    """Return the options of a preset with changes, and what suits the labels where nothing is given."""
    kind = "" if "metric" in options else kind_of(train_labels, val_labels)
    return DiagnosisOptions.preset(preset, **{**usual_options(kind, options), **options})


def separability(
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    val: Mapping[str, ArrayLike],
    val_labels: ArrayLike,
    measures: Iterable[str] | None = None,
    *,
    preset: str = "held-out",
    **options: Unpack[DiagnosisKeywords],
) -> dict[str, Diagnosis]:
    """Measure every modality by several measures; features and targets are given as for `diagnose`.

    `measures` are names of `METRICS`; None takes all measures of features for this kind of target, except
    those that are undefined for so few samples. The preset `held-out` scores samples of both splits that were
    not used for fitting; `paper` and `robust` fit and score each split by itself, which makes a linear probe
    meaningless.
    `options` are changes to the preset, see `DiagnosisOptions`. `chance_correct` is ignored by measures to
    which it does not apply. `max_samples` is 5000 unless given.

    Returns:
        Measure to diagnosis, in the order of `measures`. The states have the numbers of samples.

    Raises:
        DataError, UnknownNameError: as for `diagnose`.
    """
    DiagnosisOptions.check_call(separability, preset, options)
    check_modalities(train, val)
    requested = measures is not None
    if measures is None:
        kind = kind_of(train_labels, val_labels)
        of_features = [name for name, measure in MEASURES.items() if not measure.reads_logits]
        measures = [name for name in of_features if MEASURES[name].target == kind]
    chosen = {name: _options_of(name, preset, options) for name in measures}
    targets = {name: split_targets(train_labels, val_labels, each) for name, each in chosen.items()}
    parallel = all(each.backend != "torch" for each in chosen.values())

    def states_of(modality: str) -> dict[str, LearningState | DataError]:
        """Return a state for each measure, or why it is undefined; the features are loaded once."""
        x, x_val = train[modality], val[modality]

        def measured(measure: str) -> LearningState | DataError:
            splits = splits_of(modality, x, x_val, targets[measure])
            try:
                return estimate(modality, splits, chosen[measure])
            except DataError as error:  # for instance a silhouette of classes with one sample each
                return error

        return dict(
            zip(chosen, map_on_single_threads(measured, list(chosen), parallel=parallel), strict=True)
        )

    with isolated_rng():
        by_modality = {name: states_of(name) for name in train}
    found: dict[str, Diagnosis] = {}
    undefined: list[DataError] = []
    for measure, own in chosen.items():
        states = {name: by_measure[measure] for name, by_measure in by_modality.items()}
        measured = {name: state for name, state in states.items() if isinstance(state, LearningState)}
        undefined += [state for state in states.values() if isinstance(state, DataError)]
        if len(measured) == len(states):
            found[measure] = Diagnosis(measured, own)
    if undefined and (requested or not found):
        raise undefined[0]
    return found


def _options_of(measure: str, preset: str, options: Mapping[str, Any]) -> DiagnosisOptions:
    changes = {"max_samples": CAP, **options, "metric": measure}
    if measure in MEASURES and not MEASURES[measure].is_share:
        changes.pop("chance_correct", None)
    return DiagnosisOptions.preset(preset, **changes)
