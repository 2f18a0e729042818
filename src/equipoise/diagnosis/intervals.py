"""The interval of a gap: how far the samples that were drawn could have carried it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.diagnosis.measures.scores import Score


def centred_interval(
    pairs: Sequence[tuple[Score, Score]],
    gap: float,
    scales: tuple[float, float],
    resamples: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of training minus validation score, centred on the measured gap.

    Every resample draws the samples of both splits anew under one of the repeats, taken at random: repeats
    share samples, so that the mean over them would come out too narrow, and their own spread is that of
    the k-means starts, folds and subsets. What was fitted stays, the names of the clusters included. Measures
    that are no mean over samples (nmi, R^2) move in a resample, in which samples are doubled; the mean of
    the resamples is therefore put back to the gap. With a single repeat the interval knows nothing of
    another k-means start.

    Args:
        pairs: scores of the training and validation split, a pair a repeat.
        gap: the mean over the repeats of training minus validation.
        scales: factors of the two scores, 1 unless they are corrected for chance.
        resamples: number of resamples, at least 1.
        generator: where the draws come from.
    """
    draws = np.empty(resamples)
    for index in range(resamples):
        train, val = pairs[int(generator.integers(len(pairs)))]
        draws[index] = scales[0] * train.resampled(generator) - scales[1] * val.resampled(generator)
    low, high = np.quantile(draws - draws.mean(), [0.025, 0.975])
    return float(gap + low), float(gap + high)
