"""The learning states of a method's runs over epochs: gaps, re-learning, and its effects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from equipoise.diagnosis import LearningState
from equipoise.diagnosis.verdict.rules import Interval, Thresholds, over_trained
from equipoise.diagnosis.verdict.verdict import numbers_of
from equipoise.experiments.compare.statistics import student
from equipoise.report.records import Run
from equipoise.report.text.wording import Spread, number

RELEARNING, DIAGNOSIS = "relearning", "diagnosis"
NOT_OF_THE_RULER: Final = frozenset(
    {
        "metric",
        "n_init",
        "kmeans_seed",
        "max_iter",
        "backend",
        "sign",
        "min_gap",
        "bootstrap",
        "missing_classes",
    }
)
"""Options of a diagnosis that leave what a score means: how it is computed, and what follows from it. The
metric is known of each modality."""


@dataclass(frozen=True)
class Reading:
    """The separability of one modality's training and validation features, in one event of one run.

    The event is `relearning` (measured right before the weights were pulled back, with the strength that was
    applied) or `diagnosis` (whose `applied` is NaN).
    """

    seed: int
    epoch: int
    event: str
    modality: str
    train: float
    val: float
    applied: float
    metric: str
    interval: Interval | None = None
    options: frozenset[tuple[str, Any]] = frozenset()
    """Those by which scores may differ in meaning."""

    @property
    def ruler(self) -> tuple[str, frozenset[tuple[str, Any]]]:
        """By what the scores were measured; only scores of one ruler can be compared."""
        return self.metric, self.options

    @property
    def gap(self) -> float:
        """Training minus validation, with its sign: only a positive gap means over-training."""
        return self.train - self.val


@dataclass(frozen=True)
class Point:
    """The scores of one modality at one event, over the seeds."""

    epoch: int
    event: str
    train: Spread
    val: Spread
    gap: Spread
    interval: Interval | None = None
    """95 % interval of the mean gap; of a last diagnosis only."""


@dataclass(frozen=True)
class Effect:
    """What re-learning did to one modality, over seeds and moments.

    Attributes:
        strength: of the pull toward the initial weights.
        by_seed: seed to its mean strength.
        before, after: the gap right before and right after, where both were measured.
    """

    strength: Spread
    by_seed: Mapping[int, float]
    before: Spread
    after: Spread


def readings(runs: Iterable[Run]) -> list[Reading]:
    """Return the readings of the finished runs, run by run, in the order of events."""
    return [
        Reading(
            seed=run.seed,
            epoch=int(event["epoch"]),
            event=str(event["event"]),
            modality=modality,
            train=number(state.get("train_score")),
            val=number(state.get("val_score")),
            applied=number(state.get("applied")),
            metric=str(state.get("metric", "purity")),
            interval=tuple(held) if (held := state.get("interval")) else None,
            options=_options(event),
        )
        for run in runs
        if run.finished
        for event in run.states
        if event.get("event") in (RELEARNING, DIAGNOSIS)
        for modality, state in event["modalities"].items()
    ]


def _options(event: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    held = (event.get("options") or {}).items()
    return frozenset((name, value) for name, value in held if name not in NOT_OF_THE_RULER)


def by_one_ruler(read: Sequence[Reading]) -> list[Reading]:
    """Return the readings that can be compared with the first diagnosis, if there is any, or else all."""
    ruler = next((reading.ruler for reading in read if reading.event == DIAGNOSIS), None)
    return [reading for reading in read if ruler in (None, reading.ruler)]


def modalities(read: Iterable[Reading]) -> list[str]:
    """Return the names in order of appearance."""
    return list(dict.fromkeys(reading.modality for reading in read))


def metric(read: Sequence[Reading]) -> str:
    """Return the measure of separability; `purity` where nothing was read."""
    return next((reading.metric for reading in read if reading.event == DIAGNOSIS), "purity")


def relearning_epochs(read: Iterable[Reading]) -> list[int]:
    """Return the epochs at whose end some run was re-learned."""
    return sorted({reading.epoch for reading in read if reading.event == RELEARNING})


def trajectory(read: Iterable[Reading], modality: str) -> list[Point]:
    """Return the scores of a modality over epochs, a re-learning before the diagnosis that follows it."""
    own = sorted(
        (reading for reading in read if reading.modality == modality),
        key=lambda reading: (reading.epoch, reading.event != RELEARNING),
    )
    points = []
    for (epoch, event), group in groupby(own, key=lambda reading: (reading.epoch, reading.event)):
        points.append(Point(epoch, event, *_spreads(list(group))))
    return points


def _spreads(read: Sequence[Reading]) -> tuple[Spread, Spread, Spread]:
    return Spread.of(r.train for r in read), Spread.of(r.val for r in read), Spread.of(r.gap for r in read)


def interval_over_seeds(differences: Sequence[float]) -> Interval | None:
    """Return Student's 95 % interval of the mean of finite differences; None for fewer than two seeds."""
    if len(differences) < 2:
        return None
    mean = math.fsum(differences) / len(differences)
    low, high, _ = student(differences, mean)
    return (low, high) if math.isfinite(low) else (mean, mean)  # they are equal on every seed


def over_trained_by(modality: str, point: Point, measure: str) -> float | None:
    """Return by how much the rule of the verdicts holds; None without an interval, or for other measures."""
    state = LearningState(
        modality, point.train.mean, point.val.mean, point.gap.mean, point.interval, False, measure, 0, 0
    )
    return None if point.interval is None else over_trained(numbers_of(state), Thresholds())


def last_diagnosis(read: Iterable[Reading]) -> dict[str, Point]:
    """Return, by modality, the scores of each run's last diagnosis whose readings are numbers."""
    last, points = _last(read), {}
    for modality in modalities(last):
        own = [reading for reading in last if reading.modality == modality]
        held = own[0].interval if len(own) == 1 else interval_over_seeds([reading.gap for reading in own])
        points[modality] = Point(
            max(reading.epoch for reading in own), DIAGNOSIS, *_spreads(own), interval=held
        )
    return points


def _last(read: Iterable[Reading]) -> list[Reading]:
    """Return, by modality and seed, the last diagnosis whose readings are numbers."""
    held = [reading for reading in read if reading.event == DIAGNOSIS and math.isfinite(reading.gap)]
    return list({(reading.modality, reading.seed): reading for reading in held}.values())


def effects(read: Sequence[Reading]) -> dict[str, Effect]:
    """Return what re-learning did to each modality, by the readings of one method.

    Gaps are compared only where both were measured by the same ruler.
    """
    found = {}
    for modality in modalities(read):
        own = [reading for reading in read if reading.modality == modality]
        pulls = [reading for reading in own if reading.event == RELEARNING]
        pairs = [pair for pull in pulls if (pair := _pair(pull, own)) is not None]
        if pulls:
            found[modality] = Effect(
                strength=Spread.of(pull.applied for pull in pulls),
                by_seed={p.seed: Spread.of(q.applied for q in pulls if q.seed == p.seed).mean for p in pulls},
                before=Spread.of(before for before, _ in pairs),
                after=Spread.of(after for _, after in pairs),
            )
    return found


def _pair(pull: Reading, own: Sequence[Reading]) -> tuple[float, float] | None:
    """Return the gap before and after one re-learning; None where one of them is unknown."""
    for reading in own:
        same_moment = (reading.seed, reading.epoch) == (pull.seed, pull.epoch)
        if same_moment and reading.event == DIAGNOSIS and reading.ruler == pull.ruler:
            both = (pull.gap, reading.gap)
            return both if all(map(math.isfinite, both)) else None
    return None
