"""Shapley values of modalities: what each adds to a value, averaged over all orders of joining."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import combinations
from math import comb
from operator import add
from typing import Any, Protocol, TypeVar

import numpy as np

from equipoise.types import UsageError


class Amount(Protocol):
    """What a value may be: a number, an array or a tensor."""

    def __add__(self, other: Any, /) -> Any: ...
    def __sub__(self, other: Any, /) -> Any: ...
    def __truediv__(self, other: Any, /) -> Any: ...


A = TypeVar("A", bound=Amount)


def subsets(modalities: Sequence[str]) -> list[frozenset[str]]:
    """Return all `2^M` subsets, from the empty to the full one, smaller ones first."""
    sizes = range(len(modalities) + 1)
    return [frozenset(chosen) for size in sizes for chosen in combinations(modalities, size)]


def shapley_values(value: Callable[[frozenset[str]], A], modalities: Sequence[str]) -> dict[str, A]:
    """Return the Shapley value of every modality (Shapley, 1953).

    `phi^m = sum over S without m of |S|! (M - |S| - 1)! / M! * (v(S + m) - v(S))`. They add up to
    `v(all) - v(empty)`.

    Args:
        value: `v`, called once for each of the `2^M` sets of modalities, the empty set included; returns
            numbers, arrays or tensors of one shape, through which gradients flow.
        modalities: `M` different names.

    Returns:
        `{m: value}` of the shape that `value` returns, in the order of `modalities`.

    Raises:
        UsageError: no modality, or a name given twice.
    """
    _check(modalities)
    values, count = {subset: value(subset) for subset in subsets(modalities)}, len(modalities)

    def weighted_gains(m: str) -> list[A]:
        others = subsets([name for name in modalities if name != m])
        return [(values[s | {m}] - values[s]) / (count * comb(count - 1, len(s))) for s in others]

    return {m: reduce(add, weighted_gains(m)) for m in modalities}


def antithetic_orders(modalities: Sequence[str], pairs: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Draw orders of joining in pairs, each order followed by its reverse.

    A modality that joins early in one order joins late in the other, so that the errors of a pair partly
    cancel (antithetic sampling; Mitchell, Cooper, Frank and Holmes, JMLR 2022).

    Returns:
        `2 * pairs` orders.

    Raises:
        UsageError: no modality, a name given twice, or no pair.
    """
    _check(modalities)
    if pairs < 1:
        raise UsageError(f"the number of pairs of orders is {pairs}; expected at least 1.")
    generator = np.random.default_rng(seed)
    orders: list[tuple[str, ...]] = []
    for _ in range(pairs):
        order = tuple(modalities[int(position)] for position in generator.permutation(len(modalities)))
        orders += [order, order[::-1]]
    return orders


def prefixes(order: Sequence[str]) -> list[frozenset[str]]:
    """Return the `M + 1` sets of an order of joining, from the empty to the full one."""
    return [frozenset(order[:count]) for count in range(len(order) + 1)]


def gains(value: Callable[[frozenset[str]], A], order: Sequence[str]) -> dict[str, A]:
    """Return what each modality adds when it joins in this order.

    They add up to `v(all) - v(empty)`; their mean over all orders is the Shapley value.
    """
    values = [value(subset) for subset in prefixes(order)]
    return {m: values[i + 1] - values[i] for i, m in enumerate(order)}


def _check(modalities: Sequence[str]) -> None:
    if not modalities or len(set(modalities)) < len(modalities):
        raise UsageError(f"Shapley values need modalities of different names; found {list(modalities)}.")
