"""The predictions that contributions are computed from: which modalities are present in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.contribution.contributions import ABSENCES
from equipoise.diagnosis.contribution.shapley import antithetic_orders, prefixes, subsets
from equipoise.types import UsageError, check_known

NONE, PERMUTED = "none", "permuted"


@dataclass(frozen=True)
class Query:
    """One set of predictions.

    Attributes:
        present: modalities with their own features.
        stand_in: the features of the others: `mean`, `zero` or `permuted`; `none` if all are present.
        repeat: number of the permutation.
    """

    present: frozenset[str]
    stand_in: str
    repeat: int = 0


@dataclass(frozen=True)
class Choices:
    """Options of a measurement of contributions.

    Attributes:
        absence: what replaces an absent modality in `alone`, the baseline and the Shapley values. The default
            is the mean, which has no information about the sample and which the fusion gets on average. Zeros
            may lie far from all features seen in training and then shift the logits, which lowers the score
            without any loss of information.
        repeats: permutations whose scores are averaged.
        exact_up_to: largest number of modalities with Shapley values over all subsets.
        order_pairs: pairs of sampled orders if there are more modalities.
        resamples: bootstrap samples for the intervals.
        seed: seed of permutations, sampled orders and bootstrap.

    Raises:
        UnknownNameError: no such absence.
        UsageError: a number is too small.
    """

    absence: str = "mean"
    repeats: int = 5
    exact_up_to: int = 8
    order_pairs: int = 32
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        check_known("absence", [self.absence], ABSENCES)
        for name, least in (("repeats", 1), ("exact_up_to", 1), ("order_pairs", 2), ("resamples", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least {least}.")

    def permutation(self, count: int, repeat: int) -> NDArray[np.int64]:
        """Return for each of `count` samples the sample whose features replace its own, `[count]`."""
        order: NDArray[np.int64] = np.random.default_rng([self.seed, repeat]).permutation(count)
        return order

    def query(
        self, modalities: Sequence[str], present: frozenset[str], stand_in: str | None = None, repeat: int = 0
    ) -> Query:
        """Return the query of a subset; by default absent modalities are replaced as in `absence`."""
        complete = len(present) == len(modalities)
        return Query(present, NONE if complete else stand_in or self.absence, repeat)

    def orders(self, modalities: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the sampled orders; none if the Shapley values are exact."""
        if len(modalities) <= self.exact_up_to:
            return []
        return antithetic_orders(modalities, self.order_pairs, self.seed)


def queries(modalities: Sequence[str], choices: Choices) -> list[Query]:
    """Return all predictions that are needed, the one with all modalities first, permuted ones last."""
    everything = frozenset(modalities)
    orders = choices.orders(modalities)
    wanted = [everything, *(s for order in orders for s in prefixes(order))]
    wanted += [frozenset([m]) for m in modalities] if orders else subsets(modalities)
    found = [choices.query(modalities, subset) for subset in wanted]
    found += [choices.query(modalities, everything - {m}, kind) for m in modalities for kind in ABSENCES]
    found += [
        choices.query(modalities, everything - {m}, PERMUTED, repeat)
        for m in modalities
        for repeat in range(choices.repeats)
    ]
    return list(dict.fromkeys(found))
