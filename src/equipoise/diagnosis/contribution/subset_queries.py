"""What a model is asked so that the contribution of each modality can be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.contribution.contributions import ABSENCES
from equipoise.diagnosis.contribution.shapley import antithetic_orders, prefixes, subsets
from equipoise.types import UnknownNameError, UsageError

NONE, PERMUTED = "none", "permuted"


@dataclass(frozen=True)
class Query:
    """One set of predictions.

    Attributes:
        present: modalities that give their own features.
        stand_in: what the others give: `mean`, `zero` or `permuted`; `none` where there are no others.
        repeat: number of the permutation.
    """

    present: frozenset[str]
    stand_in: str
    repeat: int = 0


@dataclass(frozen=True)
class Choices:
    """How contributions are measured.

    Attributes:
        absence: what stands in for an absent modality in `alone`, the baseline and the Shapley values. The
            mean is the default: it tells nothing about the sample, and the fusion gets about what it is used
            to on average. Zeros may lie far from everything that the fusion has ever seen, and then shift the
            logits; the drop that this alone causes is not one of information.
        repeats: permutations whose scores are averaged.
        exact_up_to: largest number of modalities with Shapley values over all subsets.
        order_pairs: pairs of sampled orders where there are more modalities.
        resamples: bootstrap samples behind the intervals.
        seed: of permutations, sampled orders and bootstrap.

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
        if self.absence not in ABSENCES:
            raise UnknownNameError("absence", self.absence, ABSENCES)
        for name, least in (("repeats", 1), ("exact_up_to", 1), ("order_pairs", 2), ("resamples", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least {least}.")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Choices:
        """Build the choices from options by name.

        Raises:
            UnknownNameError: an option does not exist.
        """
        known = [option.name for option in fields(cls)]
        for option in options:
            if option not in known:
                raise UnknownNameError("option of a contribution", option, known)
        return cls(**options)

    def permutation(self, count: int, repeat: int) -> NDArray[np.int64]:
        """Return for each of `count` samples the one whose features it is given, `[count]`."""
        order: NDArray[np.int64] = np.random.default_rng([self.seed, repeat]).permutation(count)
        return order

    def query(self, modalities: Sequence[str], present: frozenset[str], stand_in: str | None = None) -> Query:
        """Return the query of a subset, by default with the chosen absence."""
        return Query(present, NONE if len(present) == len(modalities) else stand_in or self.absence)

    def orders(self, modalities: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the sampled orders; none where the Shapley values are exact."""
        if len(modalities) <= self.exact_up_to:
            return []
        return antithetic_orders(modalities, self.order_pairs, self.seed)


def queries(modalities: Sequence[str], choices: Choices) -> list[Query]:
    """Return all that is asked of the model, all modalities present first; permuted ones come last."""
    everything = frozenset(modalities)
    orders = choices.orders(modalities)
    wanted = [s for order in orders for s in prefixes(order)] if orders else subsets(modalities)
    found = [choices.query(modalities, everything)]
    found += [choices.query(modalities, subset) for subset in wanted]
    found += [choices.query(modalities, frozenset([m])) for m in modalities]
    found += [choices.query(modalities, everything - {m}, kind) for m in modalities for kind in ABSENCES]
    found += [permuted(everything, m, repeat) for m in modalities for repeat in range(choices.repeats)]
    return list(dict.fromkeys(found))


def permuted(everything: frozenset[str], modality: str, repeat: int) -> Query:
    """Return the query in which one modality's features are those of other samples."""
    return Query(everything - {modality}, PERMUTED, repeat)
