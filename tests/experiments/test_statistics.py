"""Statistics against hand-computed numbers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from equipoise.experiments.fairness import obstacles
from equipoise.experiments.statistics import paired_difference, rank, summarise


def test_paired_difference_by_hand() -> None:
    # differences 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.302653, half width 4.302653 / sqrt(3)
    found = paired_difference([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (found.mean, found.n) == (2.0, 3)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-5)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-5)
    assert found.p_value == pytest.approx(0.0741799, abs=1e-6)


def test_paired_difference_equals_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=8), rng.normal(size=8)
    expected = stats.ttest_rel(one, two)
    found = paired_difference(list(one), list(two))
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_paired_difference_without_spread() -> None:
    same = paired_difference([0.5, 0.6], [0.5, 0.6])
    assert (same.mean, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    shifted = paired_difference([0.6, 0.7], [0.5, 0.6])  # equal differences tell nothing of the spread
    assert shifted.mean == pytest.approx(0.1)
    assert math.isnan(shifted.low)
    assert math.isnan(shifted.p_value)
    one = paired_difference([0.5], [0.4])
    assert one.mean == pytest.approx(0.1)
    assert math.isnan(one.low)
    assert math.isnan(one.p_value)
    assert paired_difference([], []).n == 0


def rows(method: str, accuracy: list[float], status: str = "ok") -> list[dict[str, object]]:
    return [
        {
            "method": method,
            "seed": seed,
            "test_accuracy": value,
            "test_macro_f1": value,
            "val_accuracy": value,
            "train_seconds": 1.0,
            "forward_samples": 10,
            "status": status,
        }
        for seed, value in enumerate(accuracy)
    ]


def test_summary_pairs_by_seed_and_counts_failures() -> None:
    table = pd.DataFrame(
        [
            *rows("joint", [0.5, 0.6, 0.7]),
            *rows("better", [0.6, 0.7, 0.8])[::-1],
            *rows("broken", [math.nan], "failed: no"),
        ]
    )
    summary = summarise(table)
    assert summary["joint"]["mean"] == pytest.approx(0.6)
    assert summary["joint"]["std"] == pytest.approx(0.1)
    assert summary["joint"]["difference_to_joint"] is None
    assert summary["better"]["difference_to_joint"]["mean"] == pytest.approx(0.1)
    assert (summary["broken"]["n"], summary["broken"]["failed"]) == (0, 1)
    assert rank(summary) == {"better": 1, "joint": 2}


def test_equal_means_share_a_place() -> None:
    assert rank({"a": {"mean": 0.5}, "b": {"mean": 0.7}, "c": {"mean": 0.7}}) == {"b": 1, "c": 1, "a": 3}


def run(method: str, seed: int, **changes: object) -> dict[str, object]:
    keys = ("data", "budget", "split", "init", "order")
    return {
        "method": method,
        "seed": seed,
        "model": "m",
        "environment": {"device": "cpu"},
        **{f"{k}_fingerprint": "x" for k in keys},
        **changes,
    }


def test_comparable_runs_may_be_ranked() -> None:
    runs = [run(method, seed) for method in ("joint", "other") for seed in range(3)]
    for seed in range(3):  # weights and splits may differ between seeds
        for place in (seed, seed + 3):
            runs[place] |= {"init_fingerprint": str(seed), "split_fingerprint": str(seed)}
    assert obstacles(runs) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data_fingerprint": "y"}, "data"),
        ({"budget_fingerprint": "y"}, "budget"),
        ({"model": "y"}, "model"),
        ({"split_fingerprint": "y"}, "seed 2 differ in splits"),
        ({"init_fingerprint": "y"}, "seed 2 differ in initial weights"),
        ({"order_fingerprint": "y"}, "seed 2 differ in order of the training batches"),
        ({"environment": {"device": "cuda:0"}}, "seed 2 differ in device"),
        ({"seed": 7}, "different seeds"),
    ],
)
def test_runs_that_differ_are_not_ranked(changes: dict[str, object], reason: str) -> None:
    runs = [run(method, seed) for method in ("joint", "other") for seed in range(3)]
    runs[-1] |= changes
    assert any(reason in line for line in obstacles(runs))


def test_two_seeds_are_not_enough() -> None:
    reasons = obstacles([run(method, seed) for method in ("joint", "other") for seed in range(2)])
    assert reasons == ["a ranking needs at least 3 seeds; joint has 2 (--seeds 3)"]
