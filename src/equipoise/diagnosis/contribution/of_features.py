"""Contribution of each modality to a joint linear head on given features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.contribution.refits import HeadData, refits
from equipoise.diagnosis.contribution.subset_queries import PERMUTED, Choices, Query, queries
from equipoise.diagnosis.contribution.subset_scores import ScoredSplit, answers, contributions_from
from equipoise.randomness import isolated_rng
from equipoise.threads import one_thread
from equipoise.typed_options import from_options


@isolated_rng()  # importing scikit-learn draws from Python's random state
def contribution_of_features(
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    val: Mapping[str, ArrayLike],
    val_labels: ArrayLike,
    *,
    split: str = "validation",
    **choices: Any,
) -> Contributions:
    """Measure how much each modality contributes if there are features, but no model that joins them.

    The model is a joint linear head: ridge regression of one-hot classes (or of numbers) on the standardised
    features of all modalities, fitted to the training split. As its inputs are standardised, a feature of
    zeros is the mean, and `removed` equals `averaged`.

    Features and targets (classes or numbers) are given as for `diagnose`. The second split is scored, and
    `split` is its name; see `Choices` for the options.

    Returns:
        The contributions, including `refitted`, `without` and `refitted_all`.

    Raises:
        DataError: modalities, lengths, widths or classes do not match, or features are not finite.
        UnknownNameError: an option does not exist.
    """
    chosen = from_options(Choices, choices, "of a contribution")
    data = HeadData.of(train, train_labels, val, val_labels)
    target, num_classes = data.val_target, len(data.classes)
    heads = refits(data.train, data.train_target, data.val, target, num_classes)
    with one_thread():
        parts = heads.head.parts(data.val)

        def answer(query: Query) -> NDArray[Any]:
            scores = np.tile(heads.head.bias, (len(target), 1))
            for m, part in parts.items():
                if m in query.present:
                    scores += part
                elif query.stand_in == PERMUTED:
                    scores += part[chosen.permutation(len(target), query.repeat)]
            return answers(scores, target)

        answered = {query: answer(query) for query in queries(tuple(parts), chosen)}
    names = tuple(str(c) for c in data.classes) or None
    scored = ScoredSplit(tuple(parts), target, data.train_target, num_classes, split, names)
    return heads.into(contributions_from(answered, scored, chosen))
