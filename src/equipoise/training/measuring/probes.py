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
from equipoise.diagnosis.measures.prediction import mean_average_precision
from equipoise.models import BalancedModel
from equipoise.tasks import CLASSIFICATION
from equipoise.threads import one_thread
from equipoise.types import Batch

MAX_SAMPLES: Final = 5_000
"""Training samples that a probe is fitted on; more take time and hardly change its accuracy."""
PENALTIES: Final = tuple(10.0**exponent for exponent in range(-2, 6))
TOLERANCE, MAX_ITERATIONS = 1e-3, 200
"""Ten times looser than scikit-learn's, which takes four times as long for the same accuracy."""


def probe_scores(model: BalancedModel, train: Iterable[Batch], val: Iterable[Batch]) -> dict[str, float]:
    """Fit a linear model on each modality's frozen features of `train`, not augmented, and score it on `val`.

    Returns:
        Modality to the main figure of the model's task on all validation samples: accuracy of a logistic
        regression, R^2 of a ridge regression for a number, or its mean average precision for labels.

    Raises:
        ModelError, DataError: see `collect_features`.
    """
    fitted, scored = (collect_features(encoders_of(model), model, batches) for batches in (train, val))
    score = probe_accuracy if model.task == CLASSIFICATION.name else ridge_score
    return {
        name: score(fitted.features[name], fitted.target, scored.features[name], scored.target)
        for name in model.modalities
    }


def probe_accuracy(train: Tensor, train_target: Tensor, val: Tensor, val_target: Tensor) -> float:
    """Return the validation accuracy of a logistic regression on standardised features `[N, d]`.

    At most `MAX_SAMPLES` are used for training, each class (of at least two) in proportion.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    y, y_val = train_target.numpy(), val_target.numpy()
    rows = spread_rows(y, MAX_SAMPLES)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(tol=TOLERANCE, max_iter=MAX_ITERATIONS))
    # With several threads the order of sums varies, and with it the last bits.
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(train.numpy()[rows].astype(np.float64), y[rows])
        return float(classifier.score(val.numpy().astype(np.float64), y_val))


def ridge_score(train: Tensor, train_target: Tensor, val: Tensor, val_target: Tensor) -> float:
    """Return the validation score of a ridge regression on standardised features `[N, d]`.

    It is R^2 of numbers `[N]`, or the mean average precision of labels `[N, C]`. The penalty is chosen by
    leave-one-out on the training samples, of which at most `MAX_SAMPLES` are used.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    y, y_val = train_target.numpy(), val_target.numpy()
    rows = np.linspace(0, len(y) - 1, min(len(y), MAX_SAMPLES)).round().astype(np.int64)
    model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    with one_thread():
        model.fit(train.numpy()[rows].astype(np.float64), y[rows])
        predicted = model.predict(val.numpy().astype(np.float64))
    if y.ndim > 1:
        return mean_average_precision(predicted, y_val)
    return float(r2_score(y_val, predicted))


def spread_rows(target: NDArray[Any], limit: int) -> NDArray[np.int64]:
    """Return at most `limit` rows, evenly spread over the rows of each class, without randomness."""
    if len(target) <= limit:
        return np.arange(len(target))
    by_class = np.argsort(target, kind="stable")
    places = np.linspace(0, len(target) - 1, limit).round().astype(np.int64)
    return np.sort(by_class[places])
