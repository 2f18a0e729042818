"""From the features of every modality to its scores, their gap and the interval of the gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equipoise.diagnosis.features.arrays import check_modalities, in_range, split_targets, splits_of
from equipoise.diagnosis.features.scaling import minmax, scale_features
from equipoise.diagnosis.measures.catalogue import MEASURES
from equipoise.diagnosis.measures.scores import Fitting, Score, Splits, Values
from equipoise.diagnosis.options import WITHOUT_CLASSES, DiagnosisOptions
from equipoise.diagnosis.room import copied
from equipoise.diagnosis.state import Diagnosis, LearningState
from equipoise.randomness import isolated_rng
from equipoise.sharing import Blocks
from equipoise.threads import map_on_single_threads
from equipoise.types import DataError

USUAL_MEASURES: Final = {"continuous": "ridge-r2", "labels": "linear-map"}
"""Default measures of targets that are not classes, for which purity is not defined."""


def diagnose_with(
    options: DiagnosisOptions,
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    val: Mapping[str, ArrayLike],
    val_labels: ArrayLike,
    blocks: tuple[Blocks, Blocks] | None = None,
) -> Diagnosis:
    """Measure learning states with given options; see `diagnose`.

    With `blocks` processes share the samples of both splits: features are those of this process, labels those
    of all, and all processes call it. Only the paper's purity then leaves the features where they are.
    """
    check_modalities(train, val)
    targets = split_targets(train_labels, val_labels, options)
    in_blocks = _in_blocks(options, targets)

    def measured(name: str) -> LearningState:
        x, x_val = train[name], val[name]
        if blocks and not in_blocks:
            x, x_val = (share.joined(np.asarray(z)) for share, z in zip(blocks, (x, x_val), strict=True))
        splits = splits_of(name, x, x_val, targets, blocks if in_blocks else None)
        return estimate(name, splits, options)

    parallel = options.backend != "torch" and not blocks  # all processes exchange in one order
    with isolated_rng():  # importing scikit-learn draws from Python's random state
        states = map_on_single_threads(measured, list(train), parallel=parallel)
    return Diagnosis(dict(zip(train, states, strict=True)), options)


def _in_blocks(options: DiagnosisOptions, targets: tuple[Values, Values]) -> bool:
    """Return whether processes can measure it without all features in one place."""
    plain = options.metric == "purity" and options.assign == "refit" and options.backend != "torch"
    scaled = options.scaler == "minmax-per-split" and options.pca is None
    largest = max(map(len, targets))
    every = not options.matched_size and (options.max_samples or largest) >= largest
    return plain and scaled and every


def usual_options(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metric and assignment that suit targets of this kind, so far as `options` do not give them.

    The paper covers classes only. A regression that scores its own training samples measures their number
    rather than the encoder, so every measure of numbers or labels that fits one is cross-fitted.
    """
    metric = options.get("metric", USUAL_MEASURES.get(kind))
    measure = MEASURES.get(metric)  # an unknown name is refused where the options are checked
    if measure is None or measure.target not in USUAL_MEASURES:
        return {}
    usual = {"metric": metric} if measure.clusters else {"metric": metric, "assign": "cross-fit"}
    return {name: value for name, value in usual.items() if name not in options}


def estimate(name: str, splits: Splits, options: DiagnosisOptions) -> LearningState:
    """Score training and validation features of the modality `name`; disposable features are overwritten."""
    by_feature = options.scaler not in ("none", "l2") and not MEASURES[options.metric].reads_logits
    train, val = in_range(splits.train, splits.val, by_feature=by_feature, blocks=splits.blocks)
    splits = replace(splits, train=train, val=val)
    if options.metric == "binned-purity":
        splits = binned(splits, options.bins)
    generator = np.random.default_rng(options.kmeans_seed)
    clusters = 1 if options.metric in WITHOUT_CLASSES else int(splits.train_target.max()) + 1
    pairs: list[tuple[Score, Score]] = []
    for drawn in scaled_draws(splits, options, generator):
        how = fitting(options, options.n_clusters or clusters, options.kmeans_seed + len(pairs))
        pairs.append(MEASURES[options.metric].pair(drawn, how))
        del drawn  # frees its memory before the next draw
    chance = _chance(splits.train_target, options), _chance(splits.val_target, options)
    train_score, val_score = (
        float(np.mean([(pair[i].value - chance[i]) / (1 - chance[i]) for pair in pairs])) for i in (0, 1)
    )
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
        negligible=_negligible(signed, gap, interval, options),
        metric=options.metric,
        n_train=pairs[0][0].count,
        n_val=pairs[0][1].count,
    )


def fitting(options: DiagnosisOptions, n_clusters: int, seed: int) -> Fitting:
    """Return what a measure needs to fit with `n_clusters` and the seed of one repeat."""
    shared = {name: getattr(options, name) for name in ("assign", "folds", "n_init", "max_iter", "backend")}
    return Fitting(n_clusters, seed, **shared)


def binned(splits: Splits, bins: int) -> Splits:
    """Bin a continuous target by quantiles of the training split; ties reduce the number of bins."""
    numbers, val_numbers = splits.train_target.astype(np.float64), splits.val_target.astype(np.float64)
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, bins + 1)[1:-1]))
    return replace(
        splits,
        train_target=np.searchsorted(edges, numbers, side="right"),
        val_target=np.searchsorted(edges, val_numbers, side="right"),
    )


def _negligible(
    signed: float, gap: float, interval: tuple[float, float] | None, options: DiagnosisOptions
) -> bool:
    if options.sign == "positive" and signed < 0:
        return True
    if isinstance(options.min_gap, str):
        assert interval is not None  # DiagnosisOptions sets resamples if min_gap is "bootstrap"
        return interval[0] <= 0 <= interval[1]
    return gap < options.min_gap


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
    """Yield the scaled samples of each repeat; a split that is used whole is scaled once."""
    cap = options.max_samples or MEASURES[options.metric].cap
    whole = [len(target) for target in (splits.train_target, splits.val_target)]
    sizes = [size if cap is None else min(size, cap) for size in whole]
    if options.matched_size:
        sizes = [min(sizes)] * 2
    scaled = None
    for _ in range(options.repeats):
        # Both draws use one seed, so that two equal splits give equal subsets and no gap.
        seed = int(generator.integers(2**63))
        if sizes != whole:
            yield _scaled_splits(_subset(splits, sizes, options, seed), options)
            continue
        if scaled is None:
            disposable = options.repeats == 1 and options.scaler != "none"
            scaled = replace(_scaled_splits(splits, options), disposable=disposable)
        yield scaled


def _scaled_splits(splits: Splits, options: DiagnosisOptions) -> Splits:
    """Scale both splits, for k-means of scikit-learn in float64, as the official code does.

    In float32 the same features fall into other clusters. The copy is scaled in place.
    """
    measure = MEASURES[options.metric]
    if measure.reads_logits:
        return splits
    precise = measure.clusters and options.backend != "torch"
    kind = np.dtype(np.float64) if precise else splits.train.dtype
    if splits.train.dtype != kind or not (splits.disposable or options.scaler == "none"):
        train, val = copied(splits.train, kind), copied(splits.val, kind)
        splits = replace(splits, train=train, val=val, disposable=True)
    if splits.blocks:  # scaled as the paper does, see `_in_blocks`
        shares = zip((splits.train, splits.val), splits.blocks, strict=True)
        train, val = (minmax(part, copy=False, blocks=share) for part, share in shares)
    else:
        train, val = scale_features(
            splits.train, splits.val, options.scaler, options.pca, in_place=splits.disposable
        )
    return replace(splits, train=train, val=val)


def _subset(splits: Splits, sizes: Sequence[int], options: DiagnosisOptions, seed: int) -> Splits:
    continuous = options.metric in WITHOUT_CLASSES
    train, val = (
        stratified_rows(target, size, np.random.default_rng(seed), continuous)
        for target, size in zip((splits.train_target, splits.val_target), sizes, strict=True)
    )
    return Splits(
        splits.train[train], splits.train_target[train], splits.val[val], splits.val_target[val], True
    )


def stratified_rows(
    target: Values, size: int, generator: np.random.Generator, continuous: bool
) -> NDArray[np.int64]:
    """Return `size` rows in their order, each class in proportion; remainders go to the largest fractions."""
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
    starts, folds and subsets.) Fitted models are kept, and so are the classes assigned to clusters. Measures
    that are not a mean over samples (nmi, R^2) are biased in a resample, which contains duplicates, so the
    resamples are centred on the gap. With one repeat the interval does not cover the choice of the k-means
    start. `scales` are factors of the two scores, 1 unless they are corrected for chance.
    """
    draws = np.empty(resamples)
    for index in range(resamples):
        train, val = pairs[int(generator.integers(len(pairs)))]
        draws[index] = scales[0] * train.resampled(generator) - scales[1] * val.resampled(generator)
    low, high = np.quantile(draws - draws.mean(), [0.025, 0.975])
    return float(gap + low), float(gap + high)
