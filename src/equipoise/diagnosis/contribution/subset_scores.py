"""Contributions from answers: what is asked of a model, and what follows from what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from equipoise.diagnosis.contribution.contributions import Contribution, Contributions, Interval
from equipoise.diagnosis.contribution.shapley import gains, shapley_values
from equipoise.diagnosis.contribution.subset_queries import Choices, Query, permuted
from equipoise.types import DataError, ModelError

Values = NDArray[Any]
LEVELS: Final = (2.5, 97.5)


def answers(predictions: Values, target: Values) -> Values:
    """Return the predicted classes `[N]` of logits `[N, C]`, or the predicted values of a continuous target.

    Raises:
        ModelError: the predictions have another shape, or are not finite.
    """
    continuous = np.issubdtype(target.dtype, np.floating)
    if continuous and predictions.ndim == 2 and predictions.shape[1] == 1:
        predictions = predictions[:, 0]
    fits = predictions.ndim == 1 if continuous else predictions.ndim == 2 and predictions.shape[1] > 1
    if not fits or len(predictions) != len(target):
        raise ModelError(
            f"the model returned predictions of shape {list(predictions.shape)} for {len(target)} samples; "
            f"expected [{len(target)}{']' if continuous else ', classes]'}."
        )
    if not np.isfinite(predictions).all():
        raise ModelError("the model returned NaN or infinite predictions; check whether training diverged.")
    return predictions.astype(np.float64) if continuous else predictions.argmax(axis=1).astype(np.int32)


@dataclass(frozen=True)
class Ruler:
    """A score as a sum over samples: `base + sum_i outcome_i / denominator`.

    Accuracy has the outcomes `[hit]`, base 0 and the denominator N; R^2 has the outcomes `-(error)^2`, base 1
    and the denominator `sum_i (y_i - mean(y))^2`. Shapley values are linear in the outcomes in both cases.

    Attributes:
        target: classes or numbers `[N]`.
    """

    target: Values

    @property
    def metric(self) -> str:
        """`accuracy` or `r2`."""
        return "r2" if self.continuous else "accuracy"

    @property
    def continuous(self) -> bool:
        """Whether the target is continuous."""
        return bool(np.issubdtype(self.target.dtype, np.floating))

    def outcomes(self, answered: Values) -> NDArray[np.float64]:
        """Return what each sample adds `[N]`."""
        if not self.continuous:
            hits: NDArray[np.float64] = (answered == self.target).astype(np.float64)
            return hits
        errors: NDArray[np.float64] = answered.astype(np.float64) - self.target
        return -np.square(errors)

    def denominator(self, counts: Values | None = None) -> float:
        """Return the denominator, of a resample in which each sample stands `counts` times."""
        if not self.continuous:
            return float(len(self.target))
        weights = np.ones(len(self.target)) if counts is None else counts
        mean = np.average(self.target, weights=weights)
        return float(weights @ np.square(self.target - mean))

    @cached_property
    def whole(self) -> float:
        """The denominator of all samples.

        Raises:
            DataError: the target is constant.
        """
        found = self.denominator()
        if not found > 0:
            raise DataError("the target is the same number for all samples; R^2 is not defined for it.")
        return found

    def score(self, outcomes: Values) -> float:
        """Return the score of all samples."""
        return float(outcomes.sum()) / self.whole + (1.0 if self.continuous else 0.0)

    def chance(self, train_target: Values) -> float:
        """Return the score of the best constant of the training split."""
        if self.continuous:
            return self.score(self.outcomes(np.full(len(self.target), train_target.mean(dtype=np.float64))))
        most = np.bincount(train_target.astype(np.int64)).argmax()
        return float(np.mean(self.target == most))


@dataclass(frozen=True)
class Task:
    """What is scored.

    Attributes:
        modalities: names.
        target: classes (integers) or numbers `[N]`.
        train_target: those of the training split.
        num_classes: `C`, for classes.
        split: name of the split.
        classes: names of the classes, where they are known.
    """

    modalities: tuple[str, ...]
    target: Values
    train_target: Values
    num_classes: int
    split: str = "validation"
    classes: tuple[str, ...] | None = None


def contributions_from(answer_of: Callable[[Query], Values], task: Task, choices: Choices) -> Contributions:
    """Return the contributions that follow from what a model answers.

    Args:
        answer_of: called with the queries of `queries`, some of them several times; returns predicted classes
            or values `[N]`, see `answers`.
        task: what is scored.
        choices: how.

    Raises:
        DataError: a continuous target is constant.
    """
    ruler = Ruler(task.target)
    modalities, everything = task.modalities, frozenset(task.modalities)

    def of_query(query: Query) -> NDArray[np.float64]:
        return ruler.outcomes(answer_of(query))

    def of_subset(subset: frozenset[str]) -> NDArray[np.float64]:
        return of_query(choices.query(modalities, subset))

    with threadpool_limits(limits=1):  # sums of several threads would not be repeatable
        orders = choices.orders(modalities)
        if orders:
            phi, errors = _sampled(of_subset, orders, ruler)
        else:
            phi, errors = shapley_values(of_subset, modalities), {}
        return Contributions(
            {m: _contribution(m, of_query, phi[m], errors.get(m), task, choices) for m in modalities},
            score=ruler.score(of_subset(everything)),
            baseline=ruler.score(of_subset(frozenset())),
            chance=ruler.chance(task.train_target),
            metric=ruler.metric,
            split=task.split,
            absence=choices.absence,
            n=len(task.target),
            exact=not orders,
            permutations=len(orders),
            confusion=_confusion(answer_of(choices.query(modalities, everything)), task, ruler),
            classes=task.classes,
        )


def _contribution(
    modality: str,
    of_query: Callable[[Query], NDArray[np.float64]],
    phi: NDArray[np.float64],
    error: float | None,
    task: Task,
    choices: Choices,
) -> Contribution:
    ruler, everything = Ruler(task.target), frozenset(task.modalities)
    others = everything - {modality}
    full = of_query(choices.query(task.modalities, everything))
    removed = of_query(choices.query(task.modalities, others, "zero"))
    averaged = of_query(choices.query(task.modalities, others, "mean"))
    repeats = [of_query(permuted(everything, modality, r)) for r in range(choices.repeats)]
    mixed: NDArray[np.float64] = np.mean(repeats, axis=0)
    rows = {
        "drop_removed": full - removed,
        "drop_permuted": full - mixed,
        "drop_averaged": full - averaged,
        "shapley": phi,
    }
    return Contribution(
        modality=modality,
        score=ruler.score(full),
        alone=ruler.score(of_query(choices.query(task.modalities, frozenset([modality])))),
        removed=ruler.score(removed),
        permuted=ruler.score(mixed),
        averaged=ruler.score(averaged),
        shapley=float(phi.sum()) / ruler.whole,
        intervals=_intervals(rows, ruler, choices),
        sampling_error=error,
    )


def _sampled(
    value: Callable[[frozenset[str]], NDArray[np.float64]], orders: list[tuple[str, ...]], ruler: Ruler
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Return mean gains `[N]` over the orders, and the standard errors of the scores they sum up to.

    The pairs are independent, the two orders of a pair are not.
    """
    sums = {m: np.zeros(len(ruler.target)) for m in sorted(orders[0])}
    scores: dict[str, list[float]] = {m: [] for m in sums}
    for first, second in zip(orders[::2], orders[1::2], strict=True):
        one, other = gains(value, first), gains(value, second)
        for m in sums:
            gain = (one[m] + other[m]) / 2
            sums[m] += gain
            scores[m].append(float(gain.sum()) / ruler.whole)
    pairs = len(orders) // 2
    errors = {m: float(np.std(found, ddof=1) / np.sqrt(pairs)) for m, found in scores.items()}
    return {m: total / pairs for m, total in sums.items()}, errors


def _intervals(rows: Mapping[str, Values], ruler: Ruler, choices: Choices) -> dict[str, Interval]:
    """Return percentile intervals of sums over samples; all modalities meet the same resamples."""
    generator = np.random.default_rng(choices.seed)
    table, count = np.stack(list(rows.values())), len(ruler.target)
    drawn = []
    for _ in range(choices.resamples):
        counts = np.bincount(generator.integers(count, size=count), minlength=count).astype(np.float64)
        denominator = ruler.denominator(counts)
        if denominator > 0:  # a resample of one value has no R^2
            drawn.append(table @ counts / denominator)
    if not drawn:
        return {}
    low, high = np.percentile(np.stack(drawn), LEVELS, axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(rows)}


def _confusion(answered: Values, task: Task, ruler: Ruler) -> tuple[tuple[int, ...], ...] | None:
    if ruler.continuous:
        return None
    cells = task.target.astype(np.int64) * task.num_classes + answered
    table = np.bincount(cells, minlength=task.num_classes**2).reshape(task.num_classes, task.num_classes)
    return tuple(tuple(int(count) for count in row) for row in table)
