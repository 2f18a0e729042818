"""Means, spreads and paired differences over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from scipy import stats

MIN_SEEDS = 3
"""Seeds below which nothing is ranked."""


@dataclass(frozen=True)
class PairedDifference:
    """Differences between two methods on the same seeds.

    Attributes:
        mean: of the differences.
        low, high: 95 % interval of the mean by Student's t; NaN with one seed or equal differences.
        p_value: of the two-sided paired t-test; NaN likewise.
        n: number of seeds that both methods finished.
    """

    mean: float
    low: float
    high: float
    p_value: float
    n: int


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> PairedDifference:
    """Compare two methods seed by seed; `values[i]` and `baseline[i]` belong to one seed."""
    differences = [value - base for value, base in zip(values, baseline, strict=True)]
    n = len(differences)
    if n == 0:
        return PairedDifference(math.nan, math.nan, math.nan, math.nan, 0)
    mean = sum(differences) / n
    if n == 1:
        return PairedDifference(mean, math.nan, math.nan, math.nan, 1)
    if max(differences) - min(differences) < 1e-12:
        # Equal differences (test accuracies are multiples of 1/N) have no spread to infer from.
        if abs(mean) < 1e-12:
            return PairedDifference(0.0, 0.0, 0.0, 1.0, n)
        return PairedDifference(mean, math.nan, math.nan, math.nan, n)
    test = stats.ttest_1samp(differences, 0.0)
    interval = test.confidence_interval(0.95)
    return PairedDifference(mean, float(interval.low), float(interval.high), float(test.pvalue), n)


def summarise(results: pd.DataFrame, baseline: str = "joint") -> dict[str, dict[str, Any]]:
    """Return, for each method in order of appearance, what `summary.json` holds.

    Args:
        results: rows of `results.csv`; those whose status is not `ok` are counted as failed only.
        baseline: the method that differences are taken to.
    """
    finished = results[results["status"] == "ok"]
    base = finished[finished["method"] == baseline].set_index("seed")["test_accuracy"]
    summary = {}
    for method in dict.fromkeys(results["method"]):
        rows = finished[finished["method"] == method].set_index("seed")
        accuracy = rows["test_accuracy"]
        common = accuracy.index.intersection(base.index)
        difference = None
        if method != baseline and len(base):
            difference = asdict(paired_difference(list(accuracy[common]), list(base[common])))
        summary[method] = {
            "mean": float(accuracy.mean()),
            "std": float(accuracy.std(ddof=1)),
            "n": len(rows),
            "failed": int((results["method"] == method).sum()) - len(rows),
            f"difference_to_{baseline}": difference,
            "macro_f1_mean": float(rows["test_macro_f1"].mean()),
            "validation_mean": float(rows["val_accuracy"].mean()),
            "train_seconds_mean": float(rows["train_seconds"].mean()),
            "forward_samples_mean": float(rows["forward_samples"].mean()),
        }
    return summary


def rank(summary: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return the place of each method by mean test accuracy, best first; equal means share a place."""
    means = {method: values["mean"] for method, values in summary.items() if not math.isnan(values["mean"])}
    return {method: 1 + sum(other > mean for other in means.values()) for method, mean in means.items()}
