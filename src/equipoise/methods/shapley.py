"""Shapley values of modalities: what each adds to a value, averaged over all orders of joining."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb

from torch import Tensor

from equipoise.types import UsageError

Value = Callable[[frozenset[str]], Tensor]
"""A set of modalities, the empty one included, to its value; tensors of one shape."""


def subsets(modalities: Sequence[str]) -> list[frozenset[str]]:
    """Return all `2^M` subsets, from the empty to the full one, smaller ones first."""
    sizes = range(len(modalities) + 1)
    return [frozenset(chosen) for size in sizes for chosen in combinations(modalities, size)]


def shapley_values(value: Value, modalities: Sequence[str]) -> dict[str, Tensor]:
    """Return the Shapley value of every modality (Shapley, 1953).

    `phi^m = sum over S without m of |S|! (M - |S| - 1)! / M! * (v(S + m) - v(S))`. They add up to
    `v(all) - v(empty)`.

    Args:
        value: `v`, called once for each of the `2^M` subsets; gradients flow through what it returns. The
            value of the empty set is its to define.
        modalities: `M` different names.

    Returns:
        `{m: tensor}` of the shape that `value` returns, in the order of `modalities`.

    Raises:
        UsageError: no modality, or one that is named twice.
    """
    if not modalities or len(set(modalities)) < len(modalities):
        raise UsageError(f"Shapley values need modalities of different names; found {list(modalities)}.")
    values = {subset: value(subset) for subset in subsets(modalities)}
    return {m: _mean_gain(values, m, modalities) for m in modalities}


def _mean_gain(values: dict[frozenset[str], Tensor], modality: str, modalities: Sequence[str]) -> Tensor:
    """Return what a modality adds to the subsets without it, each weighted by its orders of joining."""
    count = len(modalities)
    gains = [
        (values[subset | {modality}] - values[subset]) / (count * comb(count - 1, len(subset)))
        for subset in subsets([m for m in modalities if m != modality])
    ]
    return sum(gains[1:], start=gains[0])
