"""Which samples of both splits are scored (all, a stratified part, parts of one size), and their scaling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.measures.catalogue import MEASURES
from equipoise.diagnosis.measures.scaling import scale_features
from equipoise.diagnosis.measures.scores import Splits, Values
from equipoise.diagnosis.options import WITHOUT_CLASSES, DiagnosisOptions


def scaled_draws(
    splits: Splits, options: DiagnosisOptions, generator: np.random.Generator
) -> Iterator[Splits]:
    """Yield the samples of each repeat, scaled; whole splits are scaled once."""
    sizes = drawn_sizes(len(splits.train), len(splits.val), options)
    whole = sizes == (len(splits.train), len(splits.val))
    scaled = None
    for _ in range(options.repeats):
        # One seed for both draws: two equal splits give two equal subsets, and with them no gap.
        seed = int(generator.integers(2**63))
        if whole:
            once = options.repeats == 1
            scaled = scaled or _scaled(
                splits, options, in_place=splits.disposable, disposable=once and options.scaler != "none"
            )
            yield scaled
        else:
            yield _scaled(_subset(splits, sizes, options, seed), options, in_place=True, disposable=True)


def drawn_sizes(n_train: int, n_val: int, options: DiagnosisOptions) -> tuple[int, int]:
    """Return how many samples of either split are scored."""
    cap = options.max_samples or MEASURES[options.metric].cap
    sizes = (n_train, n_val) if cap is None else (min(n_train, cap), min(n_val, cap))
    return (min(sizes), min(sizes)) if options.matched_size else sizes


def _scaled(splits: Splits, options: DiagnosisOptions, *, in_place: bool, disposable: bool) -> Splits:
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
