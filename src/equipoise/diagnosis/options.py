"""Options of a diagnosis, and presets of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np

from equipoise.diagnosis.measures.catalogue import MEASURES
from equipoise.typed_options import check_keywords, check_types
from equipoise.types import UsageError, check_known

METRICS: Final = {name: measure.summary for name, measure in MEASURES.items()}
CONTINUOUS: Final = frozenset(name for name, measure in MEASURES.items() if measure.target == "continuous")
LABELS: Final = frozenset(name for name, measure in MEASURES.items() if measure.target == "labels")
WITHOUT_CLASSES: Final = (CONTINUOUS | LABELS) - {"binned-purity"}
"""Measures that do not use classes; `binned-purity` turns numbers into classes."""
ACCURACY_LIKE: Final = frozenset(name for name, measure in MEASURES.items() if measure.is_share)
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "metric": tuple(METRICS),
    "scaler": ("minmax-per-split", "minmax-train", "standard-train", "l2", "none"),
    "assign": ("refit", "transfer", "cross-fit"),
    "sign": ("abs", "positive"),
    "backend": ("scikit-learn", "torch"),
    "missing_classes": ("error", "allow"),
}


@dataclass(frozen=True, kw_only=True)
class DiagnosisOptions:
    """Options of a diagnosis; the defaults are those of the official D&R code.

    The only addition is an explicit `n_init=10`: the official code uses the default of scikit-learn, which
    fell from 10 to 1 after the paper, and purity varies widely with a single start.

    Attributes:
        metric: measure of separability, one of `METRICS`.
        scaler: scaling of the features before the measure. `minmax-per-split` maps each feature of each
            split to [-1, 1] by itself; the `-train` scalers are fitted on the training features.
        assign: `refit` clusters (or fits) each split by itself; `transfer` fits on the training features and
            scores both splits with that fit; `cross-fit` fits on all folds of the training features but one
            and scores that fold of both splits, so that no sample is scored by a model fitted on it. Only
            purity and the predictors are cross-fitted; nmi and ari are transferred instead, and silhouette
            and Davies-Bouldin, which fit nothing, are the same under all three.
        folds: number of folds of `cross-fit`.
        matched_size: reduce the larger split to the size of the smaller by stratified sampling, as purity
            rises if there are few samples per cluster.
        repeats: number of subsets and k-means seeds that are averaged.
        n_clusters: number of k-means clusters; None means one per class.
        n_init, kmeans_seed, max_iter: number of k-means starts, seed of the first repeat, iteration limit.
        backend: `scikit-learn` (the clusters of its `KMeans`), or `torch`, for large sets and GPUs: other
            clusters that are as good, in a fraction of the time.
        max_samples: largest number of samples of a split, drawn in proportion to the classes; None means all,
            but 5000 for the measures whose cost grows fastest, see `Measure.cap`. The result has the counts.
        pca: number of principal components to keep, fitted on the scaled training features.
        chance_correct: rescale a score P to (P - P0) / (1 - P0), P0 the share of the largest class.
        sign: `abs` takes the absolute gap; `positive` counts it only if the training score is higher: if not,
            the strength is 0.
        min_gap: gaps below it give strength 0; `"bootstrap"` requires a 95 % interval that excludes zero, and
            with `sign="positive"` one above zero.
        bootstrap: resamples for the interval of the gap; 0 computes none. No score depends on it.
        bins: number of quantile bins of `binned-purity`.
        missing_classes: whether a class of the training split may be missing in validation.
    """

    metric: str = "purity"
    scaler: str = "minmax-per-split"
    assign: str = "refit"
    folds: int = 5
    matched_size: bool = False
    repeats: int = 1
    n_clusters: int | None = None
    n_init: int = 10
    kmeans_seed: int = 0
    max_iter: int = 300
    backend: str = "scikit-learn"
    max_samples: int | None = None
    pca: int | None = None
    chance_correct: bool = False
    sign: str = "abs"
    min_gap: float | str = 0.0
    bootstrap: int = 200
    bins: int = 10
    missing_classes: str = "error"

    def __post_init__(self) -> None:
        for option, known in CHOICES.items():
            check_known(f"value of {option}", [str(getattr(self, option))], known)
        for option in ("repeats", "n_init", "max_iter", "bins", "n_clusters", "max_samples", "pca"):
            self._check_count(option, least=1, optional=option in ("n_clusters", "max_samples", "pca"))
        self._check_count("folds", least=2)
        for option in ("bootstrap", "kmeans_seed"):
            self._check_count(option, least=0)
        if isinstance(self.min_gap, str):
            check_known("value of min_gap", [self.min_gap], ["bootstrap"])
        elif not float(self.min_gap) >= 0:
            raise UsageError(f"min_gap is {self.min_gap!r}; expected a number of at least 0, or 'bootstrap'.")
        if self.min_gap == "bootstrap" and not self.bootstrap:
            object.__setattr__(self, "bootstrap", 200)
        if self.chance_correct and self.metric not in ACCURACY_LIKE:
            raise UsageError(
                f"chance_correct does not apply to the metric {self.metric!r}; "
                f"it applies to {', '.join(sorted(ACCURACY_LIKE))}."
            )

    def _check_count(self, option: str, *, least: int, optional: bool = False) -> None:
        value: Any = getattr(self, option)
        if value is None and optional:
            return
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not least <= value < 2**31:
            raise UsageError(f"{option} is {value!r}; expected a whole number of at least {least}.")

    @classmethod
    def check_call(cls, called: Callable[..., Any], preset: str, changes: Mapping[str, Any]) -> None:
        """Check the preset and the `**options` of a function before any work; see `preset`."""
        check_keywords(called, changes, [field.name for field in fields(cls)])
        cls.preset(preset, **changes)

    @classmethod
    def preset(cls, name: str = "paper", /, **changes: Any) -> DiagnosisOptions:
        """Return the options of a preset with `changes`.

        Raises:
            UnknownNameError: no such preset, option or value.
        """
        check_known("diagnosis preset", [name], PRESETS)
        check_known("diagnosis option", changes, [field.name for field in fields(cls)])
        check_types(cls, changes)
        return cls(**{**PRESETS[name], **changes})

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain values, for a run record."""
        return asdict(self)

    def departures(self) -> dict[str, Any]:
        """Return the options that differ from the paper's."""
        plain = DiagnosisOptions().to_dict()
        return {name: value for name, value in self.to_dict().items() if value != plain[name]}


PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "paper": {},
    "robust": {"matched_size": True, "repeats": 5, "n_init": 1, "sign": "positive"},
    "held-out": {
        "assign": "cross-fit",
        "scaler": "standard-train",
        "repeats": 3,
        "n_init": 1,
        "sign": "positive",
    },
}
"""`paper` is the official procedure. `robust` averages five comparisons of subsets of one size, each from one
k-means start: of the estimators that were studied (docs/results/diagnosis.md) it ranks modalities by their
true over-fitting best and rarely finds over-fitting where there is none; more starts do not help. `held-out`
scores samples that were not used for fitting: its interval of purity covers the true gap most often and
raises the fewest false alarms, and under no other preset a linear probe measures the features, not itself.
Only `paper` counts a validation score above the training score as a gap.
"""
