"""From features and labels to a learning state: no model, no training."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equipoise.diagnosis.estimate import estimate, minmax
from equipoise.diagnosis.measures.clusters import cluster_purity, fit_kmeans
from equipoise.diagnosis.measures.scores import Array, Splits, Values
from equipoise.diagnosis.options import CONTINUOUS, LABELS, DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis, LearningState
from equipoise.randomness import isolated_rng
from equipoise.threads import in_turn_or_two
from equipoise.types import DataError, UsageError

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
    check_modalities(train, val)
    targets = split_targets(train_labels, val_labels, options)

    def measured(name: str) -> LearningState:
        return estimate(name, splits_of(name, train[name], val[name], targets, disposable), options)

    with isolated_rng():  # merely importing scikit-learn draws from Python's stream
        states = in_turn_or_two(measured, list(train), together=options.backend != "torch")
    return Diagnosis(dict(zip(train, states, strict=True)), options)


def check_modalities(train: Mapping[str, ArrayLike], val: Mapping[str, ArrayLike]) -> None:
    """Check that both splits have the same modalities, and at least one."""
    if not train:
        raise DataError("no modality was given; expected at least one entry of name and features.")
    if set(train) != set(val):
        raise DataError(
            f"train has the modalities {sorted(train)}, val has {sorted(val)}; expected the same names."
        )


def splits_of(name: str, train: ArrayLike, val: ArrayLike, targets: list[Values], disposable: bool) -> Splits:
    """Check the features of one modality against their targets, and return both splits in one precision."""
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


def split_targets(train_labels: ArrayLike, val_labels: ArrayLike, options: DiagnosisOptions) -> list[Values]:
    """Return the targets of both splits: class indices, numbers of a continuous target, or labels."""
    if options.metric in LABELS:
        return [label_table(train_labels, "train labels"), label_table(val_labels, "val labels")]
    y_train, y_val = label_vector(train_labels, "train labels"), label_vector(val_labels, "val labels")
    if options.metric in CONTINUOUS:
        if not all(np.issubdtype(y.dtype, np.number) and np.isfinite(y).all() for y in (y_train, y_val)):
            raise DataError(f"the metric {options.metric!r} expects finite numbers as target.")
        return [y_train, y_val]
    y, classes = class_indices(np.concatenate([y_train, y_val]), "labels")
    for split, part in (("training", y[: len(y_train)]), ("validation", y[len(y_train) :])):
        missing = np.setdiff1d(np.arange(len(classes)), part)
        if len(missing) and (split == "training" or options.missing_classes == "error"):
            names = ", ".join(str(classes[index]) for index in missing[:5])
            raise DataError(
                f"{len(missing)} of {len(classes)} classes have no sample in the {split} split: {names}; "
                "expected each class in both splits: split by class, or leave the class out"
                + (' (or allow it: missing_classes="allow").' if split == "validation" else ".")
            )
    return [y[: len(y_train)], y[len(y_train) :]]


def has_labels(*labels: ArrayLike) -> bool:
    """Return whether a target is a table of labels `[N, C]`, and no column of classes or numbers."""
    return all(_as_numpy(part).ndim == 2 for part in labels)


def label_table(labels: ArrayLike, what: str) -> Values:
    """Return labels as 0 and 1 `[N, C]`; `what` names them in errors."""
    y = _as_numpy(labels)
    if y.ndim != 2 or not len(y) or not np.isin(y, (0, 1)).all():
        raise DataError(
            f"{what} have the shape {list(y.shape)}; expected 0 or 1 for each sample and label, "
            "[samples, labels]."
        )
    return y.astype(np.int64)


def is_continuous(*labels: ArrayLike) -> bool:
    """Return whether a target is continuous: floating numbers, not all of them whole.

    Whole floats are rather classes of a wrong type, of which `class_indices` tells.
    """
    targets = [_as_numpy(part) for part in labels]
    return all(y.dtype.kind == "f" for y in targets) and any(bool((y != np.round(y)).any()) for y in targets)


def feature_matrix(features: ArrayLike, what: str) -> Array:
    """Return features as a finite array `[N, d]` of floats; `what` names them in errors."""
    x = _as_numpy(features)
    if not np.issubdtype(x.dtype, np.number) or np.issubdtype(x.dtype, np.complexfloating):
        raise DataError(f"{what} has the type {x.dtype}; expected numbers.")
    if x.ndim != 2 or x.shape[1] == 0:
        raise DataError(f"{what} has the shape {list(x.shape)}; expected [samples, features].")
    if len(x) == 0:
        raise DataError(f"{what} is empty; expected at least one sample.")
    if x.dtype not in (np.float32, np.float64):
        x = x.astype(np.float32)
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise DataError(
            f"{what} holds NaN or infinite values in {int(bad.sum())} of {len(x)} rows, first in row "
            f"{int(bad.argmax())}; expected finite numbers: repair or drop these samples."
        )
    return x


def label_vector(labels: ArrayLike, what: str, length: int | None = None) -> Values:
    """Return labels as an array `[N]`; `what` names them in errors."""
    y = _as_numpy(labels)
    if y.ndim != 1:
        raise DataError(f"{what} have the shape {list(y.shape)}; expected one label per sample, [samples].")
    if len(y) == 0:
        raise DataError(f"{what} are empty; expected at least one sample.")
    if length is not None and len(y) != length:
        raise DataError(f"there are {length} rows of features and {len(y)} {what}; expected equal numbers.")
    return y


def class_indices(labels: Values, what: str) -> tuple[NDArray[np.int64], Values]:
    """Return labels as indices `[N]` into their sorted classes, and the classes `[C]`."""
    if labels.dtype == object and all(isinstance(label, str) for label in labels):  # a pandas column, say
        labels = labels.astype(np.str_)
    if not (np.issubdtype(labels.dtype, np.integer) or labels.dtype.kind in "bUS"):
        raise DataError(
            f"{what} have the type {labels.dtype}; expected integers or strings. For classes stored as "
            "whole floats use .astype(int); for a continuous target choose metric='ridge-r2', "
            "'knn-r2' or 'binned-purity'."
        )
    classes, indices = np.unique(labels, return_inverse=True)
    return indices.astype(np.int64), classes


def _as_numpy(values: ArrayLike) -> NDArray[Any]:
    if hasattr(values, "detach"):  # a tensor, perhaps on a device or in a precision NumPy lacks
        tensor = values.detach().cpu()
        return np.asarray(tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor)
    try:
        return np.asarray(values)
    except ValueError as error:
        raise UsageError(f"expected an array of one shape, found {type(values).__name__}: {error}") from None
