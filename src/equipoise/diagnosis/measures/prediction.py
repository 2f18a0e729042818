"""Fit a predictor and score both splits: refitted, transferred or cross-fitted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.measures.scores import Array, Fitting, Score, Splits, Values, share
from equipoise.types import DataError

Predict = Callable[[Array], Values]
Fit = Callable[[Array, Values], Predict]
"""From features `[N, d]` and targets `[N]` to a fitted predictor."""
Statistic = Callable[[Values, Values], float]


def predicted_pair(
    splits: Splits, how: Fitting, *, fit: Fit, statistic: Statistic | None = None
) -> tuple[Score, Score]:
    """Score both splits by the share of correct predictions, or by a statistic of predictions and targets.

    `refit` fits and scores each split by itself; `transfer` fits on the training split and scores both;
    `cross-fit` fits on all folds of the training split but one and scores that fold of both splits. No sample
    is then scored by a model fitted on it, and without over-fitting both scores have the same expectation,
    whatever the sizes. Two equal splits have equal folds, hence equal scores.
    """
    if how.assign == "cross-fit":
        train, val = _cross_fitted(splits, fit, how.folds, how.seed)
    else:
        predict = fit(splits.train, splits.train_target)
        train = predict(splits.train)
        if how.assign == "refit":
            predict = fit(splits.val, splits.val_target)
        val = predict(splits.val)
    if statistic is not None:
        return Score(statistic, (train, splits.train_target)), Score(statistic, (val, splits.val_target))
    return Score(share, (train == splits.train_target,)), Score(share, (val == splits.val_target,))


def hits_of_logits(logits: Array, target: Values) -> Score:
    """Score by the share of samples whose largest logit `[N, C]` is that of their class; nothing is fitted.

    Raises:
        DataError: a class has no logit.
    """
    if logits.shape[1] <= target.max():
        raise DataError(
            f"there are {logits.shape[1]} logits and {int(target.max()) + 1} classes; expected one logit for "
            "each class of the training labels, in their order."
        )
    return Score(share, (logits.argmax(axis=1) == target,))


def _cross_fitted(splits: Splits, fit: Fit, folds: int, seed: int) -> tuple[Values, Values]:
    count = len(splits.train)
    if count < 2:
        raise DataError(f"{count} training sample cannot be split into folds; expected at least two.")
    fold = stratified_folds(splits.train_target, min(folds, count), seed)
    val_fold = stratified_folds(splits.val_target, min(folds, count), seed)
    train: list[Values] = []
    val: list[Values] = []
    for held_out in range(min(folds, count)):
        predict = fit(splits.train[fold != held_out], splits.train_target[fold != held_out])
        for held, rows, inside in (
            (train, splits.train, fold == held_out),
            (val, splits.val, val_fold == held_out),
        ):
            if inside.any():
                held.append(predict(rows[inside]))
    return _in_order(train, fold), _in_order(val, val_fold)


def _in_order(parts: list[Values], fold: NDArray[np.int64]) -> Values:
    """Return the predictions of all folds in the order of the samples."""
    joined = np.concatenate(parts)
    ordered = np.empty_like(joined)
    ordered[np.argsort(fold, kind="stable")] = joined
    return ordered


def mean_average_precision(predicted: Values, target: Values) -> float:
    """Return the mean over labels of the average precision, of scores and labels (0 or 1) `[N, C]`.

    Scores that are no numbers give none. Average precision is the mean, over the samples that carry the
    label, of the precision among all samples whose score is at least theirs. Labels without a sample do not
    count. It is scikit-learn's figure; a resampling asks for it hundreds of times, and nearly all of
    scikit-learn's time goes into checks.
    """
    present = target.any(axis=0)
    if not present.any():
        return 0.0
    if np.isnan(predicted).any():
        return float("nan")
    order = np.argsort(predicted[:, present], axis=0)[::-1]
    scores = np.take_along_axis(predicted[:, present], order, axis=0)
    carried = np.take_along_axis(target[:, present], order, axis=0).astype(np.float64)
    ranks = np.arange(1, len(scores) + 1)[:, None]
    precision = carried.cumsum(axis=0) / ranks
    # Samples of equal scores come in together: each has the precision at the end of them.
    last = np.where(np.diff(scores, axis=0, append=np.nan) != 0, ranks - 1, len(scores))
    ends = np.minimum.accumulate(last[::-1], axis=0)[::-1]
    own = np.take_along_axis(precision, ends, axis=0)
    return float(((carried * own).sum(axis=0) / carried.sum(axis=0)).mean())


def r2(predicted: Values, target: Values) -> float:
    """Return the coefficient of determination; for a constant target 1 if predicted exactly, else 0."""
    from sklearn.metrics import r2_score

    return float(r2_score(target, predicted))


def stratified_folds(target: Values, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold `[N]` of each sample: every class, or range of a continuous target, in equal parts.

    Equal targets get equal folds.
    """
    if target.ndim > 1:  # each combination of labels is a class
        target = np.unique(target, axis=0, return_inverse=True)[1].reshape(-1)
    shuffled = np.random.default_rng(seed).random(len(target))
    fold = np.empty(len(target), dtype=np.int64)
    fold[np.lexsort((shuffled, target))] = np.arange(len(target)) % folds
    return fold
