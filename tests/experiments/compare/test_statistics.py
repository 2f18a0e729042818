"""Statistics against hand-computed numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from equipoise.experiments.compare.comparison import COLUMNS, Comparison, read_comparison
from equipoise.experiments.compare.fairness import obstacles
from equipoise.experiments.compare.statistics import paired_difference, rank, summarise


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
    shifted = paired_difference([0.6, 0.7], [0.5, 0.6])  # equal differences do not estimate the variance
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


def test_summary_contains_both_tests_and_their_correction() -> None:
    table = pd.DataFrame(
        [
            *rows("joint", [0.50, 0.60, 0.70, 0.80]),
            *rows("better", [0.61, 0.72, 0.83, 0.94]),
            *rows("mixed", [0.51, 0.58, 0.73, 0.84]),
            *rows("once", [0.6]),
        ]
    )
    found = {name: values["difference_to_joint"] for name, values in summarise(table).items()}
    assert found["better"]["wilcoxon_p"] == pytest.approx(0.125)  # 2 of 16 signs
    assert found["mixed"]["wilcoxon_p"] == pytest.approx(0.375)  # ranks 1, -2, 3, 4: 6 of 16
    assert found["better"]["wilcoxon_p_holm"] == pytest.approx(0.25)  # "once" has no test, "joint" none
    assert found["mixed"]["wilcoxon_p_holm"] == pytest.approx(0.375)
    assert found["better"]["p_value_holm"] == pytest.approx(2 * found["better"]["p_value"])
    assert math.isnan(found["once"]["wilcoxon_p_holm"])
    assert math.isnan(found["once"]["bootstrap_low"])
    low, high = found["better"]["bootstrap_low"], found["better"]["bootstrap_high"]
    assert 0.11 <= low < 0.125 < high <= 0.14
    assert set(found["better"]) >= {"mean", "low", "high", "p_value", "n"}


def test_cost_is_reported_with_the_gain() -> None:
    table = pd.DataFrame([*rows("joint", [0.5, 0.6]), *rows("dear", [0.6, 0.7]), *rows("old", [0.6, 0.7])])
    records = [
        {"method": "joint", "forward_samples": 100, "backward_samples": 50, "train_seconds": 2.0}
        | {"method_seconds": 0.0, "peak_memory_bytes": 10}
        for _ in range(2)
    ]
    for samples in (200, 300):
        records.append({"method": "dear", "forward_samples": samples, "backward_samples": 50})
        records[-1] |= {"train_seconds": 6.0, "method_seconds": 1.0, "peak_memory_bytes": None}
        records[-1] |= {"experimental": True, "train_data": "changed by the method"}
    summary = summarise(table, records=records)
    dear, old = summary["dear"], summary["old"]
    assert dear["cost"]["forward_samples"] == 250
    assert dear["cost"]["method_seconds"] == 1.0
    relative = [dear["cost"][f"relative_{key}"] for key in ("forward", "backward", "seconds")]
    assert relative == [2.5, 1.0, 3.0]
    assert math.isnan(dear["cost"]["peak_memory_bytes"])
    assert (dear["experimental"], dear["train_data"]) == (True, "changed by the method")
    assert summary["joint"]["cost"]["peak_memory_bytes"] == 10
    assert summary["joint"]["experimental"] is False
    # Without a record only the contents of results.csv are known.
    assert (old["cost"]["forward_samples"], old["cost"]["relative_forward"]) == (10, 0.1)
    assert math.isnan(old["cost"]["backward_samples"])
    assert math.isnan(old["cost"]["relative_backward"])
    assert (old["experimental"], old["train_data"]) == (False, None)


def test_without_joint_there_are_no_differences() -> None:
    summary = summarise(pd.DataFrame(rows("ogm", [0.5, 0.6])))
    assert math.isnan(summary["ogm"]["cost"]["relative_forward"])
    assert summary["ogm"]["difference_to_joint"] is None


def test_a_summary_is_read_as_written(tmp_path: Path) -> None:
    table = pd.DataFrame([*rows("joint", [0.5, 0.6, 0.7]), *rows("ogm", [0.6, 0.7, 0.9])])
    table = table.reindex(columns=list(COLUMNS))
    records = [{"method": "ogm", "forward_samples": 10, "experimental": True, "peak_memory_bytes": None}]
    methods = summarise(table, records=records)
    summary = {"dataset": "d", "model": "m", "seeds": [0, 1, 2], "metric": "test_accuracy", "ranked": False}
    summary |= {"not_ranked_because": ["no reason"], "methods": methods}
    Comparison(tmp_path, table, summary).write()
    held = read_comparison(tmp_path)
    assert math.isnan(held.summary["methods"]["ogm"]["cost"]["peak_memory_bytes"])
    assert held.summary["methods"]["joint"]["train_data"] is None
    shown = held.table()
    assert list(shown.index) == ["joint", "ogm"]
    assert shown.loc["ogm", "experimental"]
    assert shown.loc["ogm", "wilcoxon_p"] == pytest.approx(0.25)
    assert shown["rank"].isna().all()
    for values in held.summary["methods"].values():  # as written by earlier versions
        del values["cost"], values["experimental"], values["train_data"]
    old = held.table()
    assert old["relative_forward"].isna().all()
    assert not old["experimental"].any()


def test_equal_means_have_equal_ranks() -> None:
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
def test_incomparable_runs_are_not_ranked(changes: dict[str, object], reason: str) -> None:
    runs = [run(method, seed) for method in ("joint", "other") for seed in range(3)]
    runs[-1] |= changes
    assert any(reason in line for line in obstacles(runs))


def test_a_method_with_its_own_sampling_may_have_its_own_order() -> None:
    runs = [run(method, seed) for method in ("joint", "other") for seed in range(3)]
    for own in runs[3:]:
        own |= {"order_fingerprint": "y", "train_data": "changed by the method"}
    assert obstacles(runs) == []
    runs[3]["train_data"] = "as served"
    assert obstacles(runs) == ["the runs of seed 0 differ in order of the training batches"]


def test_two_seeds_are_not_enough() -> None:
    reasons = obstacles([run(method, seed) for method in ("joint", "other") for seed in range(2)])
    assert reasons == ["a ranking needs at least 3 seeds; joint has 2 (--seeds 3)"]
