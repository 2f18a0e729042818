"""From the features of one modality to its scores, their gap and the gap's interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.diagnosis.scaling import scale_features
from equipoise.diagnosis.separability import Score, Splits, Values, binned, score_pair
from equipoise.diagnosis.state import LearningState
from equipoise.types import DataError


def estimate(name: str, splits: Splits, options: DiagnosisOptions) -> LearningState:
    """Score training and validation features of the modality `name` as `options` say."""
    if options.metric == "binned-purity":
        splits = binned(splits, options.bins)
    generator = np.random.default_rng(options.kmeans_seed)
    n_clusters = options.n_clusters or _cluster_count(splits, options)
    pairs = [
        score_pair(_draw(splits, options, generator), n_clusters, options, options.kmeans_seed + repeat)
        for repeat in range(options.repeats)
    ]
    chance = _chance(splits.train_target, options), _chance(splits.val_target, options)
    train_score = float(np.mean([_above_chance(train.value, chance[0]) for train, _ in pairs]))
    val_score = float(np.mean([_above_chance(val.value, chance[1]) for _, val in pairs]))
    interval = _interval(pairs, chance, options.bootstrap, generator) if options.bootstrap else None
    signed = train_score - val_score
    gap = max(0.0, signed) if options.sign == "positive" else abs(signed)
    return LearningState(
        modality=name,
        train_score=train_score,
        val_score=val_score,
        gap=gap,
        interval=interval,
        negligible=_negligible(gap, interval, options),
        metric=options.metric,
        n_train=len(pairs[0][0].columns[0]),
        n_val=len(pairs[0][1].columns[0]),
    )


def _interval(
    pairs: list[tuple[Score, Score]],
    chance: tuple[float, float],
    resamples: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return the central 95 % of the resampled gaps.

    Each resample takes one of the repeats: they share samples, so a mean over them would come out too
    narrow.
    """
    draws = np.empty(resamples)
    for index in range(resamples):
        train, val = pairs[int(generator.integers(len(pairs)))]
        draws[index] = _above_chance(train.resampled(generator), chance[0]) - _above_chance(
            val.resampled(generator), chance[1]
        )
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _above_chance(score: float, chance: float) -> float:
    return (score - chance) / (1 - chance)


def _negligible(gap: float, interval: tuple[float, float] | None, options: DiagnosisOptions) -> bool:
    if isinstance(options.min_gap, str):
        assert interval is not None  # DiagnosisOptions asks for resamples with min_gap="bootstrap"
        return interval[0] <= 0 <= interval[1]
    return gap < options.min_gap


def _cluster_count(splits: Splits, options: DiagnosisOptions) -> int:
    if options.metric == "ridge-r2":
        return 1
    return int(splits.train_target.max()) + 1


def _chance(target: Values, options: DiagnosisOptions) -> float:
    if not options.chance_correct:
        return 0.0
    share = float(np.unique(target, return_counts=True)[1].max() / len(target))
    if share == 1.0:
        raise DataError("all samples of a split are of one class; chance_correct needs at least two.")
    return share


def _draw(splits: Splits, options: DiagnosisOptions, generator: np.random.Generator) -> Splits:
    """Draw the subsets that are scored (capped, of one size where that is asked for) and scale them."""
    sizes = [len(splits.train), len(splits.val)]
    if options.max_samples is not None:
        sizes = [min(size, options.max_samples) for size in sizes]
    if options.matched_size:
        sizes = [min(sizes)] * 2
    continuous = options.metric == "ridge-r2"
    # One seed for both draws: two equal splits give two equal subsets, and with them no gap.
    seed = int(generator.integers(2**63))
    rows = [
        _stratified_rows(target, size, np.random.default_rng(seed), continuous)
        for target, size in zip((splits.train_target, splits.val_target), sizes, strict=True)
    ]
    train, val = scale_features(splits.train[rows[0]], splits.val[rows[1]], options.scaler, options.pca)
    return Splits(train, splits.train_target[rows[0]], val, splits.val_target[rows[1]])


def _stratified_rows(
    target: Values, size: int, generator: np.random.Generator, continuous: bool
) -> slice | NDArray[np.int64]:
    """Return `size` rows in their order, each class in proportion (largest remainders get the rest)."""
    if size >= len(target):
        return slice(None)
    if continuous:
        return np.sort(generator.choice(len(target), size, replace=False))
    classes, counts = np.unique(target, return_counts=True)
    exact = counts * size / len(target)
    share = np.floor(exact).astype(np.int64)
    share[np.argsort(share - exact, kind="stable")[: size - share.sum()]] += 1
    chosen = [
        generator.choice(np.flatnonzero(target == label), count, replace=False)
        for label, count in zip(classes, share, strict=True)
    ]
    return np.sort(np.concatenate(chosen))
