"""Scores of linear heads on one modality, on all others, and on all: what the features contain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.contribution.linear_head import Features, LinearHead, fit_head, fit_whole
from equipoise.diagnosis.contribution.subset_scores import Metric, answers
from equipoise.diagnosis.features.arrays import (
    check_modalities,
    class_indices_of_splits,
    feature_pair,
    in_range,
    is_continuous,
    label_vector,
)
from equipoise.threads import one_thread
from equipoise.types import DataError


@dataclass(frozen=True)
class Refits:
    """Linear heads fitted to some modalities, scored on another split.

    Attributes:
        head: the head on all modalities.
        alone: modality to the score of a head on it alone.
        without: modality to the score of a head on all others; empty for a single modality.
        everything: score of the head on all modalities.
    """

    head: LinearHead
    alone: dict[str, float]
    without: dict[str, float]
    everything: float

    def into(self, contributions: Contributions) -> Contributions:
        """Return the contributions with these scores."""
        return replace(contributions, refitted=self.alone, without=self.without, refitted_all=self.everything)


@dataclass(frozen=True)
class HeadData:
    """Checked features `{m: [N, d_m]}` and targets `[N]` of both splits; `classes` is empty for numbers."""

    train: Features
    train_target: NDArray[Any]
    val: Features
    val_target: NDArray[Any]
    classes: NDArray[Any]

    @classmethod
    def of(
        cls,
        train: Mapping[str, ArrayLike],
        train_labels: ArrayLike,
        val: Mapping[str, ArrayLike],
        val_labels: ArrayLike,
    ) -> HeadData:
        """Check features and labels, given as for `diagnose`."""
        y, y_val = label_vector(train_labels, "train labels"), label_vector(val_labels, "val labels")
        if any(part.dtype.kind == "f" and not np.isfinite(part).all() for part in (y, y_val)):
            raise DataError("the labels hold NaN or infinite values; expected finite numbers.")
        classes: NDArray[Any] = np.empty(0)
        if is_continuous(y, y_val):
            y, y_val = y.astype(np.float64), y_val.astype(np.float64)
        else:
            y, y_val, classes = class_indices_of_splits(y, y_val, allow_missing=True)
            if len(classes) < 2:
                raise DataError("all samples are of one class; expected at least two classes.")
        check_modalities(train, val)
        pairs = {m: in_range(*feature_pair(m, train[m], val[m], y, y_val), by_feature=True) for m in train}
        x, x_val = ({m: pair[i] for m, pair in pairs.items()} for i in (0, 1))
        return cls(x, y, x_val, y_val, classes)


def refits_of(
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    val: Mapping[str, ArrayLike],
    val_labels: ArrayLike,
) -> Refits:
    """Fit heads to given features of the training split, and score them on the other; see `diagnose`.

    Raises:
        DataError: modalities, lengths, widths or classes do not match, or features are not finite.
    """
    data = HeadData.of(train, train_labels, val, val_labels)
    return refits(data.train, data.train_target, data.val, data.val_target, len(data.classes))


def refits(
    train: Features, train_target: NDArray[Any], val: Features, target: NDArray[Any], num_classes: int
) -> Refits:
    """Score heads on each modality alone, on all others, and on all.

    A head on one modality chooses its own ridge strength. A head on several takes that of the head on all:
    its inputs are nearly the same, and the choice is the most expensive step. The targets are class indices
    or numbers, for which `num_classes` is ignored; the features `val` are scored.
    """
    metric, names = Metric(target), tuple(train)

    def scored(head: LinearHead) -> float:
        scores = sum(head.parts(val).values(), start=head.bias)
        return metric.score(metric.outcomes(answers(scores, target)))

    with one_thread():
        known, whole = fit_whole(train, train_target, num_classes)
        alone = {m: scored(fit_head(known, [m])) for m in names}
        others = {m: [name for name in names if name != m] for m in names}
        without = {
            m: alone[rest[0]] if len(rest) == 1 else scored(fit_head(known, rest, whole.strength))
            for m, rest in others.items()
            if rest
        }
        return Refits(whole, alone, without, scored(whole))
