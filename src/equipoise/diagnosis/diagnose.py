"""From features and labels to a learning state: no model, no training."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from equipoise.diagnosis.estimate import estimate
from equipoise.diagnosis.inputs import (
    class_indices,
    feature_matrix,
    has_labels,
    is_continuous,
    label_vector,
    split_targets,
)
from equipoise.diagnosis.measures.catalogue import CAP, MEASURES
from equipoise.diagnosis.measures.clustering import fit_kmeans
from equipoise.diagnosis.measures.scaling import minmax
from equipoise.diagnosis.measures.scores import Splits, Values, cluster_purity
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis, LearningState
from equipoise.diagnosis.threads import in_turn_or_two
from equipoise.randomness import isolated_rng
from equipoise.types import DataError

USUAL_MEASURES: Final = {"continuous": "ridge-r2", "labels": "linear-map"}
"""What stands in for purity where a target is no classes."""


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
            disposable=True,
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
        train_labels: classes `[N]` (integers or strings), or a continuous target: floating numbers that are
            not all whole, which are measured by `ridge-r2` where no metric is named; or 0 and 1 for several
            labels a sample `[N, C]`, measured by `linear-map`; both cross-fitted.
        val: modality name to validation features `[N_val, d_m]`.
        val_labels: classes `[N_val]`, or a continuous target.
        preset: `paper`, `robust` or `held-out`, see `PRESETS`.
        **options: changes to the preset, see `DiagnosisOptions`.

    Returns:
        A mapping from modality to `LearningState`, in the order of `train`.

    Raises:
        DataError: modalities, lengths, widths or classes do not fit, or features are not finite.
        UnknownNameError: a preset, an option or its value does not exist.
    """
    chosen = options_for(preset, options, train_labels, val_labels)
    return diagnose_with(chosen, train, train_labels, val, val_labels)


def options_for(
    preset: str, options: Mapping[str, Any], train_labels: ArrayLike, val_labels: ArrayLike
) -> DiagnosisOptions:
    """Return the options of a preset with changes, and a metric that fits the labels where none is named."""
    return DiagnosisOptions.preset(
        preset, **{**usual_options(kind_of(train_labels, val_labels), options), **options}
    )


def usual_options(kind: str, options: Collection[str]) -> dict[str, Any]:
    """Return what stands in for purity where a target is no classes and `options` name no metric.

    The paper has nothing for them. A regression that scores the very samples that it was fitted on tells more
    of their number than of the encoder, so that it scores others.
    """
    if kind not in USUAL_MEASURES or "metric" in options:
        return {}
    usual = {"metric": USUAL_MEASURES[kind], "assign": "cross-fit"}
    return {name: value for name, value in usual.items() if name not in options}


def kind_of(*labels: ArrayLike) -> str:
    """Return what labels are: `classes`, `continuous` or `labels`, as `Measure.target` has it."""
    if has_labels(*labels):
        return "labels"
    return "continuous" if is_continuous(*labels) else "classes"


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

    With `disposable` the features may be written over: a mapping that reads them from a file, say.
    """
    _check_modalities(train, val)
    targets = split_targets(train_labels, val_labels, options)

    def measured(name: str) -> LearningState:
        return estimate(name, _splits(name, train[name], val[name], targets, disposable), options)

    with isolated_rng():  # merely importing scikit-learn draws from Python's stream
        states = in_turn_or_two(measured, list(train), together=options.backend != "torch")
    return Diagnosis(dict(zip(train, states, strict=True)), options)


def separability(
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    val: Mapping[str, ArrayLike],
    val_labels: ArrayLike,
    measures: Iterable[str] | None = None,
    *,
    preset: str = "held-out",
    **options: Any,
) -> dict[str, Diagnosis]:
    """Measure every modality by several measures.

    Args:
        train: modality name to training features `[N, d_m]`.
        train_labels: classes or a continuous target `[N]`, as for `diagnose`.
        val: modality name to validation features `[N_val, d_m]`.
        val_labels: classes or a continuous target `[N_val]`.
        measures: names of `METRICS`; None takes all for classes, or all for a continuous target, as the
            labels are, and leaves out those that are not defined for so few samples.
        preset: `held-out` fits on training features and scores those of either split that the fit has not
            seen; `paper` and `robust` fit each split to itself, which tells nothing of a linear probe.
        **options: changes to the preset, see `DiagnosisOptions`; `chance_correct` holds where it applies.

    Returns:
        Measure to diagnosis, in the order of `measures`. Of large splits a stratified part is scored, 5000
        samples of each unless `max_samples` says otherwise (None: as for `diagnose`); the states say of
        how many.

    Raises:
        DataError, UnknownNameError: as for `diagnose`.
    """
    _check_modalities(train, val)
    asked = measures is not None
    if measures is None:
        kind = kind_of(train_labels, val_labels)
        measures = [name for name, measure in MEASURES.items() if measure.target == kind]
    chosen = {name: _options_of(name, preset, options) for name in measures}
    targets = {name: split_targets(train_labels, val_labels, each) for name, each in chosen.items()}
    with isolated_rng():
        panels = {name: _states_by_measure(name, train[name], val[name], targets, chosen) for name in train}
    found: dict[str, Diagnosis] = {}
    undefined: list[DataError] = []
    for measure, own in chosen.items():
        states = {name: panel[measure] for name, panel in panels.items()}
        measured = {name: state for name, state in states.items() if isinstance(state, LearningState)}
        undefined += [state for state in states.values() if isinstance(state, DataError)]
        if len(measured) == len(states):
            found[measure] = Diagnosis(measured, own)
    if undefined and (asked or not found):
        raise undefined[0]
    return found


def _states_by_measure(
    name: str,
    train: ArrayLike,
    val: ArrayLike,
    targets: Mapping[str, list[Values]],
    chosen: Mapping[str, DiagnosisOptions],
) -> dict[str, LearningState | DataError]:
    """Measure one modality, whose features may be let go afterwards; or say why a measure cannot."""

    def measured(measure: str) -> LearningState | DataError:
        splits = _splits(name, train, val, targets[measure], disposable=False)
        try:
            return estimate(name, splits, chosen[measure])
        except DataError as error:  # a silhouette of single samples, say
            return error

    together = all(options.backend != "torch" for options in chosen.values())
    return dict(zip(chosen, in_turn_or_two(measured, list(chosen), together=together), strict=True))


def _options_of(measure: str, preset: str, options: Mapping[str, Any]) -> DiagnosisOptions:
    changes = {"max_samples": CAP, **options, "metric": measure}
    if measure in MEASURES and not MEASURES[measure].is_share:
        changes.pop("chance_correct", None)
    return DiagnosisOptions.preset(preset, **changes)


def _check_modalities(train: Mapping[str, ArrayLike], val: Mapping[str, ArrayLike]) -> None:
    if not train:
        raise DataError("no modality was given; expected at least one entry of name and features.")
    if set(train) != set(val):
        raise DataError(
            f"train has the modalities {sorted(train)}, val has {sorted(val)}; expected the same names."
        )


def _splits(name: str, train: ArrayLike, val: ArrayLike, targets: list[Values], disposable: bool) -> Splits:
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
    return Splits(x_train, targets[0], x_val, targets[1], disposable)
