"""Shapley values against the mean over all orders of modalities."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from equipoise.diagnosis.contribution.shapley import antithetic_orders, gains, shapley_values, subsets
from equipoise.types import UsageError


def game(modalities, seed=0):
    rng = np.random.default_rng(seed)
    return {s: torch.from_numpy(rng.normal(size=(2, 3))) for s in subsets(modalities)}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_equals_the_mean_over_all_orders(count):
    modalities = tuple("wxyz"[:count])
    values = game(modalities)
    expected = dict.fromkeys(modalities, 0.0)
    orders = list(permutations(modalities))
    for order in orders:
        for i, m in enumerate(order):
            gain = values[frozenset(order[: i + 1])] - values[frozenset(order[:i])]
            expected[m] = expected[m] + gain.numpy() / len(orders)
    found = shapley_values(values.__getitem__, modalities)
    assert list(found) == list(modalities)
    for m in modalities:
        np.testing.assert_allclose(found[m].numpy(), expected[m], atol=1e-12)
    whole = values[frozenset(modalities)] - values[frozenset()]
    torch.testing.assert_close(sum(found.values()), whole, rtol=0, atol=1e-12)


def test_two_modalities_by_hand():
    values = {"": 0.0, "a": 1.0, "b": 0.0, "ab": 2.0}
    found = shapley_values(lambda s: torch.tensor(values["".join(sorted(s))]), ("a", "b"))
    assert {m: float(v) for m, v in found.items()} == {"a": 1.5, "b": 0.5}


def test_order_and_names_do_not_matter():
    values = game(("x", "y", "z"))
    found = shapley_values(values.__getitem__, ("x", "y", "z"))
    turned = shapley_values(values.__getitem__, ("z", "x", "y"))
    for m in found:
        torch.testing.assert_close(found[m], turned[m], rtol=0, atol=1e-12)


def test_each_subset_is_evaluated_once_and_gradients_flow():
    asked = []
    x = torch.tensor(2.0, requires_grad=True)

    def value(subset):
        asked.append(subset)
        return x * len(subset) ** 2

    found = shapley_values(value, ("a", "b", "c"))
    assert len(asked) == len(set(asked)) == 8
    found["a"].backward()
    assert float(x.grad) == pytest.approx(3.0)  # a third of 9


def test_modalities_must_be_different():
    for names in ((), ("a", "a")):
        with pytest.raises(UsageError, match="different names"):
            shapley_values(lambda s: torch.zeros(()), names)


def test_an_order_and_its_reverse_suffice_for_pairwise_interactions():
    modalities = tuple("abcd")
    rng = np.random.default_rng(0)
    own, between = rng.normal(size=4), rng.normal(size=(4, 4))

    def value(subset):
        chosen = ["abcd".index(m) for m in subset]
        return own[chosen].sum() + between[np.ix_(chosen, chosen)].sum()

    exact = shapley_values(value, modalities)
    for order in antithetic_orders(modalities, 3, seed=2)[::2]:
        one, other = gains(value, order), gains(value, order[::-1])
        for m in modalities:
            assert (one[m] + other[m]) / 2 == pytest.approx(exact[m])
        assert sum(one.values()) == pytest.approx(value(modalities))
    with pytest.raises(UsageError, match="at least 1"):
        antithetic_orders(modalities, 0)
