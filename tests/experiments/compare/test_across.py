"""Methods over several datasets: against a worked example and the definitions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

import equipoise as eq
from equipoise.experiments.compare.across import across_datasets, critical_difference
from equipoise.experiments.compare.comparison import Comparison


def comparison(dataset: str, means: dict[str, float], **changes: Any) -> Comparison:
    methods = {
        name: {"mean": mean, "rank": 1 + sum(other > mean for other in means.values())}
        for name, mean in means.items()
    }
    summary = {"dataset": dataset, "ranked": True, "not_ranked_because": [], "methods": methods} | changes
    return Comparison(Path(dataset), pd.DataFrame(), summary)


THREE = [
    comparison("a", {"joint": 0.5, "ogm": 0.6, "mla": 0.7, "unimodal:audio": 0.9}),
    comparison("b", {"joint": 0.5, "ogm": 0.7, "mla": 0.6, "unimodal:video": 0.9}),
    comparison("c", {"joint": 0.5, "ogm": 0.6, "mla": 0.6}),
]


def test_ranks_by_hand() -> None:
    found = across_datasets(THREE)
    # mla 1, 2, 1.5; ogm 2, 1, 1.5; joint 3, 3, 3
    assert found.datasets == ("a", "b", "c")
    assert found.mean_ranks == pytest.approx({"ogm": 1.5, "mla": 1.5, "joint": 3.0})
    assert found.names[-1] == "joint"
    assert found.ranks.loc["ogm"].tolist() == [2, 1, 1.5]
    assert set(found.left_out) == {"unimodal:audio", "unimodal:video"}
    assert found.few_datasets


def test_the_friedman_test_equals_that_of_scipy() -> None:
    columns = [[0.5, 0.5, 0.5], [0.6, 0.7, 0.6], [0.7, 0.6, 0.6]]
    assert across_datasets(THREE).friedman_p == pytest.approx(stats.friedmanchisquare(*columns).pvalue)


@pytest.mark.parametrize(
    ("methods", "quantile"),
    [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)],  # Demšar 2006, table 5a
)
def test_critical_difference_equals_the_published_table(methods: int, quantile: float) -> None:
    expected = quantile * math.sqrt(methods * (methods + 1) / (6 * 14))
    assert critical_difference(methods, 14) == pytest.approx(expected, rel=5e-4)


def test_p_values_and_critical_difference_agree() -> None:
    many = [
        comparison(f"d{k}", {"joint": 0.1, "ogm": 0.2 + (k % 3) / 10, "mla": 0.25, "aug": 0.9})
        for k in range(9)
    ]
    found = across_datasets(many)
    assert not found.few_datasets
    assert found.differ
    for one in found.names:
        for two in found.names:
            apart = abs(found.mean_ranks[one] - found.mean_ranks[two])
            assert (found.p_values.loc[one, two] < 0.05) == (apart > found.critical_difference)


def test_methods_with_equal_results_do_not_differ() -> None:
    same = [comparison(name, dict.fromkeys(("joint", "ogm", "mla"), 0.5)) for name in "ab"]
    found = across_datasets(same)
    assert found.friedman_p == 1.0
    assert not found.differ
    assert set(found.mean_ranks.values()) == {2.0}


def test_methods_with_a_missing_result_are_excluded() -> None:
    failed = comparison("d", {"joint": 0.5, "ogm": 0.6, "mla": 0.7, "aug": 0.8, "dgl": 0.4})
    failed.summary["methods"]["aug"] |= {"mean": math.nan, "rank": None}
    whole = comparison("e", {"joint": 0.5, "ogm": 0.6, "mla": 0.7, "aug": 0.8})
    whole.summary["methods"]["ogm"]["experimental"] = True
    found = across_datasets([failed, whole])
    assert set(found.names) == {"joint", "ogm", "mla"}
    assert found.left_out == {"aug": "no result on d", "dgl": "no result on e"}
    assert found.experimental == {"ogm"}


@pytest.mark.parametrize(
    ("comparisons", "message"),
    [
        ([], "found 0; expected comparisons of at least 2 datasets"),
        (THREE[:1], r"found 1 \(a\); expected comparisons of at least 2 datasets"),
        ([THREE[0], THREE[0]], "at least 2 datasets"),
        ([*THREE, THREE[1]], "2 comparisons of the dataset b"),
        (
            [
                THREE[0],
                comparison(
                    "d", {"joint": 1}, ranked=False, not_ranked_because=["a ranking needs at least 3 seeds"]
                ),
            ],
            r"not ranked on d \(a ranking needs at least 3 seeds\)",
        ),
        (
            [THREE[0], comparison("d", {"joint": 0.5, "ogm": 0.6, "unimodal:audio": 0.7})],
            r"2 ranked methods in common \(joint, ogm\); expected at least 3",
        ),
    ],
)
def test_refusals_give_the_reason(comparisons: list[Comparison], message: str) -> None:
    with pytest.raises(eq.UsageError, match=message):
        across_datasets(comparisons)


def test_a_method_with_different_options_is_not_one_method() -> None:
    means = {"joint": 0.5, "a": 0.6, "b": 0.7, "c": 0.8}
    one, two = comparison("x", means), comparison("y", means)
    one.summary["methods"]["a"]["options"] = {"lam": 0.1}
    two.summary["methods"]["a"]["options"] = {"lam": 5.0}
    across = across_datasets([one, two])
    assert across.left_out["a"] == "its options differ by dataset"
    assert set(across.names) == {"joint", "b", "c"}
