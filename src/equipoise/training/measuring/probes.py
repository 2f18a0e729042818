"""Linear probes of the features of each encoder (Wei et al., ECCV 2024, Fig. 1b)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from equipoise.diagnosis import collect_features
from equipoise.diagnosis.features.capture import encoders_of
from equipoise.diagnosis.features.reading import BatchReader
from equipoise.diagnosis.measures.prediction import mean_average_precision, r2
from equipoise.distributed import by_first
from equipoise.models import BalancedModel
from equipoise.tasks import CLASSIFICATION
from equipoise.threads import one_thread
from equipoise.types import Batch

MAX_SAMPLES: Final = 5_000
"""Training samples that a probe is fitted on; more take time and hardly change its accuracy."""
PENALTIES: Final = tuple(10.0**exponent for exponent in range(-2, 6))
TOLERANCE, MAX_ITERATIONS = 1e-3, 200
"""Ten times looser than scikit-learn's, which takes four times as long for the same accuracy."""


def probe_scores(
    model: BalancedModel, train: Iterable[Batch], val: Iterable[Batch], reader: BatchReader | None = None
) -> dict[str, float]:
    """Fit a linear model on each modality's frozen features of `train`, not augmented, and score it on `val`.

    `reader` reads the batches of `train`.

    Returns:
        Modality to the main figure of the model's task on all validation samples: accuracy of a logistic
        regression, R^2 of a ridge regression for a number, or its mean average precision for labels.

    Raises:
        ModelError, DataError: see `collect_features`.
    """
    encoders, classes = encoders_of(model), model.task == CLASSIFICATION.name
    fitted = collect_features(encoders, model, train, in_blocks=True, reader=reader)
    scored = collect_features(encoders, model, val, in_blocks=True)
    if fitted.blocks:  # every process gets what is fitted, not all samples
        target = fitted.target.numpy()
        rows = spread_rows(target, MAX_SAMPLES) if classes else even_rows(len(target), MAX_SAMPLES)
        fitted, scored = fitted.whole(rows), scored.whole()
    score = probe_accuracy if classes else ridge_score
    return by_first(
        lambda: {
            name: score(fitted.features[name], fitted.target, scored.features[name], scored.target)
            for name in model.modalities
        }
    )


def probe_accuracy(train: Tensor, train_target: Tensor, val: Tensor, val_target: Tensor) -> float:
    """Return the validation accuracy of a logistic regression on standardised features `[N, d]`.

    At most `MAX_SAMPLES` are used for training, each class (of at least two) in proportion.
    """
    return _score(train, train_target, val, val_target, spread_rows(train_target.numpy(), MAX_SAMPLES))


def ridge_score(train: Tensor, train_target: Tensor, val: Tensor, val_target: Tensor) -> float:
    """Return the validation score of a ridge regression on standardised features `[N, d]`.

    It is R^2 of numbers `[N]`, or the mean average precision of labels `[N, C]`. At most `MAX_SAMPLES` are
    used for training.
    """
    return _score(train, train_target, val, val_target, even_rows(len(train_target), MAX_SAMPLES))


def _score(
    train: Tensor, train_target: Tensor, val: Tensor, val_target: Tensor, rows: NDArray[np.int64]
) -> float:
    x, x_val = standardised(train.numpy()[rows], val.numpy())
    y_val = val_target.numpy()
    return main_score(linear_outputs(x, train_target.numpy()[rows], x_val), y_val)


def standardised(train: NDArray[Any], val: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features of both splits, standardised by statistics of the first."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.astype(np.float64))
    return scaler.transform(train.astype(np.float64)), scaler.transform(val.astype(np.float64))


def linear_outputs(train: NDArray[Any], target: NDArray[Any], val: NDArray[Any]) -> NDArray[Any]:
    """Fit a linear model on features `[N, d]` and return its outputs for others.

    For classes `[N]` they are those of a logistic regression; for numbers `[N]`, or labels `[N, C]` one by
    one, those of a ridge regression, whose penalty is chosen by leave-one-out on the training samples.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, RidgeCV

    # With several threads the order of sums varies, and with it the last bits.
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if np.issubdtype(target.dtype, np.integer):
            model: Any = LogisticRegression(tol=TOLERANCE, max_iter=MAX_ITERATIONS)
        else:
            model = RidgeCV(PENALTIES)
        return np.asarray(model.fit(train, target).predict(val)).reshape(len(val), *target.shape[1:])


def main_score(outputs: NDArray[Any], target: NDArray[Any]) -> float:
    """Return the main figure of a task: accuracy, R^2, or mean average precision of labels `[N, C]`."""
    if target.ndim > 1:
        return mean_average_precision(outputs, target)
    if np.issubdtype(target.dtype, np.integer):
        return float(np.mean(outputs == target))
    return r2(outputs, target) if len(target) > 1 else 0.0


def even_rows(count: int, limit: int) -> NDArray[np.int64]:
    """Return at most `limit` of `count` rows, evenly spread."""
    return np.linspace(0, count - 1, min(count, limit)).round().astype(np.int64)


def spread_rows(target: NDArray[Any], limit: int) -> NDArray[np.int64]:
    """Return at most `limit` rows, evenly spread over the rows of each class, without randomness."""
    if len(target) <= limit:
        return np.arange(len(target))
    by_class = np.argsort(target, kind="stable")
    places = np.linspace(0, len(target) - 1, limit).round().astype(np.int64)
    return np.sort(by_class[places])
