"""From a model's predictions under every query to the contributions of its modalities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.contribution.contributions import Contribution, Contributions, Interval
from equipoise.diagnosis.contribution.shapley import gains, shapley_values
from equipoise.diagnosis.contribution.subset_queries import PERMUTED, Choices, Query
from equipoise.threads import one_thread
from equipoise.types import DataError, ModelError

Values = NDArray[Any]
Outcomes = NDArray[np.float64]
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
class Metric:
    """Accuracy or R^2 as a sum over samples: `base + sum_i outcome_i / denominator`.

    Accuracy has outcomes 0 and 1, base 0 and the denominator N; R^2 has the outcomes `-(error)^2`, base 1 and
    the denominator `sum_i (y_i - mean(y))^2`. Shapley values are linear in the outcomes in both cases.

    Attributes:
        target: classes (integers) or numbers `[N]`.
    """

    target: Values

    @property
    def continuous(self) -> bool:
        """Whether the target is continuous."""
        return bool(np.issubdtype(self.target.dtype, np.floating))

    def outcomes(self, answered: Values) -> Outcomes:
        """Return the term of each sample `[N]`."""
        if not self.continuous:
            hits: Outcomes = (answered == self.target).astype(np.float64)
            return hits
        errors: Outcomes = answered.astype(np.float64) - self.target
        return -np.square(errors)

    def denominator(self, counts: Values | None = None) -> float:
        """Return the denominator, of a resample that contains each sample `counts` times."""
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
        """Return the score of the best constant prediction by the training split."""
        if self.continuous:
            return self.score(self.outcomes(np.full(len(self.target), train_target.mean(dtype=np.float64))))
        most = np.bincount(train_target.astype(np.int64)).argmax()
        return float(np.mean(self.target == most))


@dataclass(frozen=True)
class ScoredSplit:
    """The split whose predictions are scored.

    Attributes:
        modalities: names.
        target: classes (integers) or numbers `[N]`.
        train_target: those of the training split.
        num_classes: `C`, for classes.
        name: name of the split.
        classes: names of the classes, if known.
    """

    modalities: tuple[str, ...]
    target: Values
    train_target: Values
    num_classes: int
    name: str = "validation"
    classes: tuple[str, ...] | None = None


def contributions_from(
    answered: Mapping[Query, Values], split: ScoredSplit, choices: Choices
) -> Contributions:
    """Return the contributions that follow from the answer `[N]` to each of `queries`, see `answers`.

    Raises:
        DataError: a continuous target is constant.
    """
    metric, modalities = Metric(split.target), split.modalities
    everything = frozenset(modalities)

    def outcomes(present: frozenset[str], stand_in: str | None = None, repeat: int = 0) -> Outcomes:
        return metric.outcomes(answered[choices.query(modalities, present, stand_in, repeat)])

    def contribution(modality: str, phi: Outcomes, error: float | None) -> Contribution:
        others, full = everything - {modality}, outcomes(everything)
        repeats = [outcomes(others, PERMUTED, repeat) for repeat in range(choices.repeats)]
        without: dict[str, Outcomes] = {
            "removed": outcomes(others, "zero"),
            "permuted": np.mean(repeats, axis=0),
            "averaged": outcomes(others, "mean"),
        }
        drops = {f"drop_{how}": full - own for how, own in without.items()}
        return Contribution(
            modality=modality,
            score=metric.score(full),
            alone=metric.score(outcomes(frozenset([modality]))),
            **{how: metric.score(own) for how, own in without.items()},
            shapley=float(phi.sum()) / metric.whole,
            intervals=_intervals({**drops, "shapley": phi}, metric, choices),
            sampling_error=error,
        )

    with one_thread():
        orders = choices.orders(modalities)
        if orders:
            phi, errors = _sampled(outcomes, orders, metric)
        else:
            phi, errors = shapley_values(outcomes, modalities), {}
        full = answered[choices.query(modalities, everything)]
        return Contributions(
            {m: contribution(m, phi[m], errors.get(m)) for m in modalities},
            score=metric.score(metric.outcomes(full)),
            baseline=metric.score(outcomes(frozenset())),
            chance=metric.chance(split.train_target),
            metric="r2" if metric.continuous else "accuracy",
            split=split.name,
            absence=choices.absence,
            n=len(split.target),
            exact=not orders,
            permutations=len(orders),
            confusion=None if metric.continuous else _confusion(full, split),
            classes=split.classes,
        )


def _sampled(
    value: Callable[[frozenset[str]], Outcomes], orders: list[tuple[str, ...]], metric: Metric
) -> tuple[dict[str, Outcomes], dict[str, float]]:
    """Return mean gains `[N]` over the orders, and the standard errors of their sums.

    The pairs are independent, the two orders of a pair are not.
    """
    sums = {m: np.zeros(len(metric.target)) for m in sorted(orders[0])}
    scores: dict[str, list[float]] = {m: [] for m in sums}
    for first, second in zip(orders[::2], orders[1::2], strict=True):
        one, other = gains(value, first), gains(value, second)
        for m in sums:
            gain = (one[m] + other[m]) / 2
            sums[m] += gain
            scores[m].append(float(gain.sum()) / metric.whole)
    pairs = len(orders) // 2
    errors = {m: float(np.std(found, ddof=1) / np.sqrt(pairs)) for m, found in scores.items()}
    return {m: total / pairs for m, total in sums.items()}, errors


def _intervals(rows: Mapping[str, Values], metric: Metric, choices: Choices) -> dict[str, Interval]:
    """Return percentile intervals of sums over samples; all modalities share the resamples."""
    generator = np.random.default_rng(choices.seed)
    table, count = np.stack(list(rows.values())), len(metric.target)
    drawn = []
    for _ in range(choices.resamples):
        counts = np.bincount(generator.integers(count, size=count), minlength=count).astype(np.float64)
        denominator = metric.denominator(counts)
        if denominator > 0:  # R^2 of a constant resample is undefined
            drawn.append(table @ counts / denominator)
    if not drawn:
        return {}
    low, high = np.percentile(np.stack(drawn), LEVELS, axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(rows)}


def _confusion(answered: Values, split: ScoredSplit) -> tuple[tuple[int, ...], ...]:
    cells = split.target.astype(np.int64) * split.num_classes + answered
    table = np.bincount(cells, minlength=split.num_classes**2)
    return tuple(tuple(row) for row in table.reshape(split.num_classes, -1).tolist())
