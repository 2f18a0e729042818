"""Nonparametric tests: against hand-computed numbers, and against slow implementations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from equipoise.experiments.compare.significance import (
    bootstrap_interval,
    holm,
    smallest_wilcoxon_p,
    wilcoxon_p,
)


def slow_wilcoxon(differences: list[float]) -> float:
    """Go through all signs of the ranks of the nonzero differences."""
    kept = [value for value in np.round(differences, 12) if value]
    ranks = stats.rankdata(np.abs(kept))
    own = sum(rank for rank, value in zip(ranks, kept, strict=True) if value > 0)
    middle = sum(ranks) / 2
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in itertools.product((0, 1), repeat=len(kept))
    ]
    return sum(abs(total - middle) >= abs(own - middle) - 1e-9 for total in sums) / len(sums)


def slow_holm(p_values: dict[str, float]) -> dict[str, float]:
    """Multiply the k-th smallest of m by m - k + 1; never below the previous one, never above 1."""
    family = sorted((value, name) for name, value in p_values.items() if value == value)
    corrected, largest = dict.fromkeys(p_values, math.nan), 0.0
    for place, (value, name) in enumerate(family):
        largest = max(largest, min(1.0, value * (len(family) - place)))
        corrected[name] = largest
    return corrected


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.01, 0.02, 0.03], 0.25),  # all three of one sign: 2 of 8 signs are as extreme
        ([-0.01, 0.02, 0.03], 0.5),  # rank sums 5 and 1 of 6: 4 of 8
        ([0.01, 0.02, 0.03, 0.04, 0.05], 0.0625),
        ([0.01, 0.01, 0.01], 0.25),  # ties are exact too
        ([0.0, 0.01, 0.02], 0.5),  # a zero is dropped
        ([0.0, 0.0, 0.0], 1.0),
        ([0.82 - 0.81, 0.81 - 0.80, 0.81 - 0.80], 0.25),
    ],
)
def test_wilcoxon_by_hand(differences: list[float], expected: float) -> None:
    assert wilcoxon_p(differences) == pytest.approx(expected, abs=1e-12)


def test_wilcoxon_equals_the_enumeration_of_all_signs() -> None:
    rng = np.random.default_rng(0)
    for n in range(2, 11):
        untied, tied = list(rng.normal(size=n)), list(rng.integers(-3, 4, size=n) / 100)
        assert wilcoxon_p(untied) == pytest.approx(slow_wilcoxon(untied))
        if any(tied):
            assert wilcoxon_p(tied) == pytest.approx(slow_wilcoxon(tied))


def test_differences_equal_up_to_rounding_are_ties() -> None:
    hundredths = [0.83 - 0.81, -(0.73 - 0.71), -(0.63 - 0.61), 0.05]
    assert len(set(np.abs(hundredths))) > 2
    assert wilcoxon_p(hundredths) == wilcoxon_p([0.02, -0.02, -0.02, 0.05])


def test_one_seed_has_no_test() -> None:
    assert math.isnan(wilcoxon_p([0.1]))
    assert all(math.isnan(end) for end in bootstrap_interval([0.1]))
    assert math.isnan(wilcoxon_p([]))


@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
def test_the_smallest_p_value_is_reached(seeds: int) -> None:
    assert wilcoxon_p([0.01 * (k + 1) for k in range(seeds)]) == pytest.approx(smallest_wilcoxon_p(seeds))


def test_many_differences_with_ties_are_approximated() -> None:
    differences = [0.01, 0.01, -0.02] * 6
    expected = stats.wilcoxon(np.round(differences, 12), method="approx").pvalue
    assert wilcoxon_p(differences) == pytest.approx(expected)


def test_bootstrap_equals_that_of_scipy_and_is_reproducible() -> None:
    differences = [0.01, 0.03, -0.01, 0.05, 0.02, 0.04]
    low, high = bootstrap_interval(differences)
    assert (low, high) == bootstrap_interval(differences)
    expected = stats.bootstrap((differences,), np.mean, method="BCa", rng=np.random.default_rng(7))
    assert low == pytest.approx(expected.confidence_interval.low, abs=2e-3)
    assert high == pytest.approx(expected.confidence_interval.high, abs=2e-3)
    assert min(differences) < low < np.mean(differences) < high < max(differences)


def test_bootstrap_interval_of_two_is_their_range() -> None:
    assert bootstrap_interval([0.1, 0.3]) == pytest.approx((0.1, 0.3))


def test_bootstrap_of_equal_differences() -> None:
    assert bootstrap_interval([0.0, 0.0, 0.0]) == (0.0, 0.0)
    assert all(math.isnan(end) for end in bootstrap_interval([0.82 - 0.81, 0.81 - 0.80, 0.01]))


def test_percentiles_are_used_if_bca_is_undefined(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stats.bootstrap
    asked = []

    def without_bca(data: object, statistic: object, *, method: str, **options: object) -> object:
        asked.append(method)
        if method == "BCa":
            ends = {"low": math.nan, "high": math.nan}
            return type("R", (), {"confidence_interval": type("I", (), ends)})
        return whole(data, statistic, method=method, **options)

    monkeypatch.setattr(stats, "bootstrap", without_bca)
    low, high = bootstrap_interval([0.1, 0.2, 0.4])
    assert asked == ["BCa", "percentile"]
    assert 0.0999 < low < high < 0.4001


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1: 0.03, 0.04, 0.04
    found = holm({"a": 0.04, "b": 0.01, "none": math.nan, "c": 0.02})
    assert list(found) == ["a", "b", "none", "c"]
    assert (found["b"], found["c"], found["a"]) == pytest.approx((0.03, 0.04, 0.04))
    assert math.isnan(found["none"])


def test_holm_equals_the_slow_implementation() -> None:
    rng = np.random.default_rng(1)
    for size in (1, 2, 7, 34):
        p_values = {f"m{k}": float(p) for k, p in enumerate(rng.uniform(size=size) ** 3)}
        p_values["m0"] = p_values[f"m{size - 1}"]  # a tie
        assert holm(p_values) == pytest.approx(slow_holm(p_values))


def test_holm_of_an_empty_set() -> None:
    assert holm({}) == {}
    assert math.isnan(holm({"a": math.nan})["a"])
