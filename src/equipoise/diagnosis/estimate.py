"""From the features of one modality to its scores, their gap and the gap's interval."""

from __future__ import annotations

import numpy as np

from equipoise.diagnosis.drawing import scaled_draws
from equipoise.diagnosis.intervals import centred_interval
from equipoise.diagnosis.measures.catalogue import MEASURES
from equipoise.diagnosis.measures.scores import Fitting, Score, Splits, Values
from equipoise.diagnosis.options import WITHOUT_CLASSES, DiagnosisOptions
from equipoise.diagnosis.state import LearningState
from equipoise.types import DataError


def estimate(name: str, splits: Splits, options: DiagnosisOptions) -> LearningState:
    """Score training and validation features of the modality `name` as `options` say.

    The features are used up where `splits` are disposable.
    """
    if options.metric == "binned-purity":
        splits = binned(splits, options.bins)
    generator = np.random.default_rng(options.kmeans_seed)
    n_clusters = options.n_clusters or _cluster_count(splits, options)
    pairs: list[tuple[Score, Score]] = []
    for drawn in scaled_draws(splits, options, generator):
        how = Fitting(options, n_clusters, options.kmeans_seed + len(pairs))
        pairs.append(score_pair(drawn, how))
        del drawn  # else it would stay in memory while the next one is drawn
    chance = _chance(splits.train_target, options), _chance(splits.val_target, options)
    train_score = float(np.mean([_above_chance(train.value, chance[0]) for train, _ in pairs]))
    val_score = float(np.mean([_above_chance(val.value, chance[1]) for _, val in pairs]))
    signed = train_score - val_score
    interval = None
    if options.bootstrap:
        scales = 1 / (1 - chance[0]), 1 / (1 - chance[1])
        interval = centred_interval(pairs, signed, scales, options.bootstrap, generator)
    gap = max(0.0, signed) if options.sign == "positive" else abs(signed)
    return LearningState(
        modality=name,
        train_score=train_score,
        val_score=val_score,
        gap=gap,
        interval=interval,
        negligible=_negligible(gap, interval, options),
        metric=options.metric,
        n_train=pairs[0][0].count,
        n_val=pairs[0][1].count,
    )


def score_pair(splits: Splits, how: Fitting) -> tuple[Score, Score]:
    """Score both splits, scaled, by the metric chosen."""
    return MEASURES[how.options.metric].pair(splits, how)


def binned(splits: Splits, bins: int) -> Splits:
    """Cut a continuous target into quantile bins of the training split; ties make for fewer bins."""
    edges = np.unique(np.quantile(splits.train_target.astype(np.float64), np.linspace(0, 1, bins + 1)[1:-1]))
    return Splits(
        splits.train,
        np.searchsorted(edges, splits.train_target.astype(np.float64), side="right"),
        splits.val,
        np.searchsorted(edges, splits.val_target.astype(np.float64), side="right"),
        splits.disposable,
    )


def _above_chance(score: float, chance: float) -> float:
    return (score - chance) / (1 - chance)


def _negligible(gap: float, interval: tuple[float, float] | None, options: DiagnosisOptions) -> bool:
    if isinstance(options.min_gap, str):
        assert interval is not None  # DiagnosisOptions asks for resamples with min_gap="bootstrap"
        return interval[0] <= 0 <= interval[1]
    return gap < options.min_gap


def _cluster_count(splits: Splits, options: DiagnosisOptions) -> int:
    if options.metric in WITHOUT_CLASSES:
        return 1
    return int(splits.train_target.max()) + 1


def _chance(target: Values, options: DiagnosisOptions) -> float:
    if not options.chance_correct:
        return 0.0
    share = float(np.unique(target, return_counts=True)[1].max() / len(target))
    if share == 1.0:
        raise DataError("all samples of a split are of one class; chance_correct needs at least two.")
    return share
