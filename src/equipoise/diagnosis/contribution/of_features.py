"""Contribution of each modality from features in hand, through a joint linear head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.contribution.head_inputs import head_targets, matched_features
from equipoise.diagnosis.contribution.linear_head import fit_whole, refits
from equipoise.diagnosis.contribution.subset_queries import PERMUTED, Choices, Query
from equipoise.diagnosis.contribution.subset_scores import Task, answers, contributions_from
from equipoise.randomness import isolated_rng


@isolated_rng()  # merely importing scikit-learn draws from Python's stream
def contribution_of_features(
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    val: Mapping[str, ArrayLike],
    val_labels: ArrayLike,
    *,
    split: str = "validation",
    **choices: Any,
) -> Contributions:
    """Tell how much each modality contributes where there are features, and no model that joins them.

    The model is a joint linear head: ridge regression of one-hot classes (or of numbers) on the standardised
    features of all modalities, fitted to the training split. Its inputs being standardised, a feature of
    zeros is the mean, and `removed` equals `averaged`.

    Args:
        train: modality name to training features `[N, d_m]` (NumPy arrays or tensors).
        train_labels: classes `[N]` (integers or strings), or numbers.
        val: modality name to the features that are scored, `[N_val, d_m]`.
        val_labels: their classes or numbers `[N_val]`.
        split: what the second split is called.
        **choices: see `Choices`.

    Returns:
        The contributions, with `refitted`, `without` and `refitted_all` beside them.

    Raises:
        DataError: modalities, lengths, widths or classes do not fit, or features are not finite.
        UnknownNameError: an option does not exist.
    """
    chosen = Choices.of(choices)
    y, y_val, classes = head_targets(train_labels, val_labels)
    x, x_val = matched_features(train, val, len(y), len(y_val))
    with threadpool_limits(limits=1):  # sums of several threads would not be repeatable
        known, whole = fit_whole(x, y, len(classes))
        parts = whole.parts(x_val)
        task = Task(tuple(x), y_val, y, len(classes), split, tuple(str(c) for c in classes) or None)

        def answer(query: Query) -> NDArray[Any]:
            scores = np.tile(whole.bias, (len(y_val), 1))
            for m, part in parts.items():
                if m in query.present:
                    scores += part
                elif query.stand_in == PERMUTED:
                    scores += part[chosen.permutation(len(y_val), query.repeat)]
            return answers(scores, y_val)

        found = contributions_from(answer, task, chosen)
        return refits(known, whole, x_val, y_val).into(found)
