"""From the features of one modality to its scores, their gap and the gap's interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.measures.catalogue import MEASURES
from equipoise.diagnosis.measures.scores import Array, Fitting, Score, Splits, Values
from equipoise.diagnosis.options import WITHOUT_CLASSES, DiagnosisOptions
from equipoise.diagnosis.state import LearningState
from equipoise.types import DataError

if TYPE_CHECKING:
    from sklearn.preprocessing import StandardScaler

ROWS: Final = 4096
"""Rows from which a standard scaler is fitted at a time."""


def estimate(name: str, splits: Splits, options: DiagnosisOptions) -> LearningState:
    """Score training and validation features of the modality `name`; disposable features are overwritten."""
    if options.metric == "binned-purity":
        splits = binned(splits, options.bins)
    generator = np.random.default_rng(options.kmeans_seed)
    n_clusters = options.n_clusters or _cluster_count(splits, options)
    pairs: list[tuple[Score, Score]] = []
    for drawn in scaled_draws(splits, options, generator):
        how = Fitting(
            n_clusters,
            options.kmeans_seed + len(pairs),
            options.assign,
            options.folds,
            options.n_init,
            options.max_iter,
            options.backend,
        )
        pairs.append(MEASURES[options.metric].pair(drawn, how))
        del drawn  # frees its memory before the next draw
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


def scaled_draws(
    splits: Splits, options: DiagnosisOptions, generator: np.random.Generator
) -> Iterator[Splits]:
    """Yield the samples of each repeat, scaled; whole splits are scaled once."""
    sizes = drawn_sizes(len(splits.train), len(splits.val), options)
    whole = sizes == (len(splits.train), len(splits.val))
    scaled = None
    for _ in range(options.repeats):
        # One seed for both draws, so that two equal splits give equal subsets and no gap.
        seed = int(generator.integers(2**63))
        if whole:
            once = options.repeats == 1
            scaled = scaled or _scaled_splits(
                splits, options, in_place=splits.disposable, disposable=once and options.scaler != "none"
            )
            yield scaled
        else:
            yield _scaled_splits(
                _subset(splits, sizes, options, seed), options, in_place=True, disposable=True
            )


def drawn_sizes(n_train: int, n_val: int, options: DiagnosisOptions) -> tuple[int, int]:
    """Return how many samples of either split are scored."""
    cap = options.max_samples or MEASURES[options.metric].cap
    sizes = (n_train, n_val) if cap is None else (min(n_train, cap), min(n_val, cap))
    return (min(sizes), min(sizes)) if options.matched_size else sizes


def _scaled_splits(splits: Splits, options: DiagnosisOptions, *, in_place: bool, disposable: bool) -> Splits:
    train, val = scale_features(splits.train, splits.val, options.scaler, options.pca, in_place=in_place)
    return Splits(train, splits.train_target, val, splits.val_target, disposable)


def _subset(splits: Splits, sizes: tuple[int, int], options: DiagnosisOptions, seed: int) -> Splits:
    continuous = options.metric in WITHOUT_CLASSES
    train, val = (
        _stratified_rows(target, size, np.random.default_rng(seed), continuous)
        for target, size in zip((splits.train_target, splits.val_target), sizes, strict=True)
    )
    return Splits(splits.train[train], splits.train_target[train], splits.val[val], splits.val_target[val])


def _stratified_rows(
    target: Values, size: int, generator: np.random.Generator, continuous: bool
) -> NDArray[np.int64]:
    """Return `size` rows in their order, each class in proportion (largest remainders get the rest)."""
    if size >= len(target):
        return np.arange(len(target))
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


def scale_features(
    train: Array, val: Array, scaler: str, pca: int | None = None, *, in_place: bool = False
) -> tuple[Array, Array]:
    """Scale training and validation features `[N, d]`, optionally reduced to `pca` components.

    `minmax-per-split` is the paper's: each feature of each split to [-1, 1] by that split's own range. With
    `in_place` the given arrays are overwritten, where the scaler allows it.
    """
    train, val = _scaled(train, val, scaler, copy=not in_place)
    if pca is not None and pca < train.shape[1]:
        from sklearn.decomposition import PCA

        components = min(pca, len(train))
        reduction = PCA(components, svd_solver="full").fit(train)
        train, val = reduction.transform(train), reduction.transform(val)
    return train, val


def minmax(features: Array, *, copy: bool = True) -> Array:
    """Scale each feature of `features [N, d]` to [-1, 1]; a constant feature becomes -1."""
    from sklearn.preprocessing import MinMaxScaler

    scaled: Array = MinMaxScaler((-1, 1), copy=copy).fit_transform(features)
    return scaled


def _scaled(train: Array, val: Array, scaler: str, *, copy: bool) -> tuple[Array, Array]:
    if scaler == "none":
        return train, val
    if scaler == "minmax-per-split":
        return minmax(train, copy=copy), minmax(val, copy=copy)
    if scaler == "l2":
        from sklearn.preprocessing import normalize

        return normalize(train, copy=copy), normalize(val, copy=copy)
    from sklearn.preprocessing import MinMaxScaler

    fitted = (
        MinMaxScaler((-1, 1), copy=copy).fit(train) if scaler == "minmax-train" else _standard(train, copy)
    )
    return fitted.transform(train), fitted.transform(val)


def _standard(train: Array, copy: bool) -> StandardScaler:
    """Fit in parts: the variance of all rows at once would need a copy of them in double precision."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(copy=copy)
    for start in range(0, len(train), ROWS):
        scaler.partial_fit(train[start : start + ROWS])
    return scaler


def centred_interval(
    pairs: Sequence[tuple[Score, Score]],
    gap: float,
    scales: tuple[float, float],
    resamples: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of training minus validation score, centred on the measured gap.

    Each resample draws the samples of both splits with replacement, under one repeat chosen at random. (The
    repeats share samples, so an interval of their mean would be too narrow; their spread is that of k-means
    starts, folds and subsets.) Fits are kept, the names of the clusters included. Measures that are not a
    mean over samples (nmi, R^2) are biased in a resample, which holds duplicates, so the resamples are
    centred on the gap. With one repeat the interval does not cover the choice of the k-means start.

    Args:
        pairs: scores of the training and validation split, one pair for each repeat.
        gap: the mean over the repeats of training minus validation.
        scales: factors of the two scores, 1 unless they are corrected for chance.
        resamples: number of resamples, at least 1.
        generator: random generator of the resamples.
    """
    draws = np.empty(resamples)
    for index in range(resamples):
        train, val = pairs[int(generator.integers(len(pairs)))]
        draws[index] = scales[0] * train.resampled(generator) - scales[1] * val.resampled(generator)
    low, high = np.quantile(draws - draws.mean(), [0.025, 0.975])
    return float(gap + low), float(gap + high)
