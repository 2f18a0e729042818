"""Means, spreads, paired differences and costs over seeds: the entry of each method in `summary.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pandas as pd
from scipy import stats

from equipoise.experiments.compare.floors import over_seeds
from equipoise.experiments.compare.significance import LEVEL, bootstrap_interval, holm, wilcoxon_p
from equipoise.tasks import CLASSIFICATION

COSTS: Final = (
    "forward_samples",
    "backward_samples",
    "train_seconds",
    "method_seconds",
    "peak_memory_bytes",
)
RELATIVE: Final = {
    "relative_forward": "forward_samples",
    "relative_backward": "backward_samples",
    "relative_seconds": "train_seconds",
}
MIN_SEEDS = 3
"""Number of seeds that a ranking needs."""


@dataclass(frozen=True)
class PairedDifference:
    """Differences between two methods on the same seeds.

    Attributes:
        mean: of the differences.
        low, high: 95 % interval of the mean by Student's t; NaN with one seed or equal differences.
        p_value: of the two-sided paired t-test; NaN likewise.
        n: number of seeds that both methods finished.
        bootstrap_low, bootstrap_high: 95 % interval of the mean by the bootstrap; too narrow over few seeds.
        wilcoxon_p: p-value of the two-sided Wilcoxon signed-rank test, at least 2^(1-n).
    """

    mean: float
    low: float
    high: float
    p_value: float
    n: int
    bootstrap_low: float = math.nan
    bootstrap_high: float = math.nan
    wilcoxon_p: float = math.nan


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> PairedDifference:
    """Compare two methods seed by seed; `values[i]` and `baseline[i]` belong to one seed."""
    differences = [value - base for value, base in zip(values, baseline, strict=True)]
    n = len(differences)
    if n == 0:
        return PairedDifference(math.nan, math.nan, math.nan, math.nan, 0)
    mean = sum(differences) / n
    low, high, p_value = student(differences, mean)
    bootstrap = bootstrap_interval(differences)
    return PairedDifference(mean, low, high, p_value, n, *bootstrap, wilcoxon_p(differences))


def student(differences: Sequence[float], mean: float) -> tuple[float, float, float]:
    """Return the ends of the interval of the mean, and the p-value, by Student's t."""
    if len(differences) == 1:
        return math.nan, math.nan, math.nan
    if max(differences) - min(differences) < 1e-12:
        # Equal differences (test accuracies are multiples of 1/N) have no spread to infer from.
        return (0.0, 0.0, 1.0) if abs(mean) < 1e-12 else (math.nan, math.nan, math.nan)
    test = stats.ttest_1samp(differences, 0.0)
    interval = test.confidence_interval(LEVEL)
    return float(interval.low), float(interval.high), float(test.pvalue)


def summarise(
    results: pd.DataFrame,
    baseline: str = "joint",
    records: Sequence[Mapping[str, Any]] = (),
    figure: str = CLASSIFICATION.main,
) -> dict[str, dict[str, Any]]:
    """Return the entry of each method in `summary.json`, in order of appearance.

    Args:
        results: rows of `results.csv`; those whose status is not `ok` are counted as failed only.
        baseline: the method that the others are compared with.
        records: the `result.json` of each finished run, for values without a column in `results.csv`:
            samples passed backward, peak memory, whether a method is experimental or changes its data.
        figure: the figure by which methods are compared, the main one of the task.
    """
    test, val = f"test_{figure}", f"val_{figure}"
    finished = results[results["status"] == "ok"]
    base = finished[finished["method"] == baseline].set_index("seed")[test]
    summary = {}
    for method in dict.fromkeys(results["method"]):
        rows = finished[finished["method"] == method].set_index("seed")
        difference = None if method == baseline or not len(base) else _difference(rows[test], base)
        own = [record for record in records if record["method"] == method]
        summary[method] = {
            "mean": float(rows[test].mean()),
            "std": float(rows[test].std(ddof=1)),
            "n": len(rows),
            "failed": int((results["method"] == method).sum()) - len(rows),
            f"difference_to_{baseline}": difference,
            "macro_f1_mean": float(rows["test_macro_f1"].astype(float).mean()),
            "validation_mean": float(rows[val].mean()),
            "train_seconds_mean": float(rows["train_seconds"].mean()),
            "forward_samples_mean": float(rows["forward_samples"].mean()),
            "cost": _mean_cost(own or _rows_as_records(rows)),
            "floor": over_seeds(own),
            "experimental": any(bool(record.get("experimental")) for record in own),
            "train_data": next((str(r["train_data"]) for r in own if r.get("train_data")), None),
        }
    _relate_costs(summary, baseline)
    _correct_for_many(summary, baseline)
    return summary


def _difference(values: pd.Series[float], base: pd.Series[float]) -> dict[str, Any]:
    common = values.index.intersection(base.index)
    return asdict(paired_difference(list(values[common]), list(base[common])))


def _rows_as_records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    known = rows[[key for key in COSTS if key in rows.columns]]
    return [{str(key): value for key, value in row.items()} for row in known.to_dict("records")]


def _mean_cost(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean of each cost; NaN if a run lacks it, as the others are other seeds."""
    held: dict[str, list[Any]] = {key: [run.get(key) for run in runs] for key in COSTS}
    return {
        key: math.nan if not values or None in values else math.fsum(map(float, values)) / len(values)
        for key, values in held.items()
    }


def _relate_costs(summary: dict[str, dict[str, Any]], baseline: str) -> None:
    """Add to each method's costs the multiples of the baseline's; NaN if one is unknown or that is zero."""
    base = summary.get(baseline, {}).get("cost", {})
    for values in summary.values():
        cost = values["cost"]
        for name, key in RELATIVE.items():
            known = base.get(key, math.nan)
            cost[name] = cost[key] / known if known > 0 and math.isfinite(cost[key]) else math.nan


def _correct_for_many(summary: dict[str, dict[str, Any]], baseline: str) -> None:
    """Add Holm's correction to the p-values; the family is all methods but the baseline."""
    blocks = {
        name: block for name, values in summary.items() if (block := values[f"difference_to_{baseline}"])
    }
    for key in ("p_value", "wilcoxon_p"):
        corrected = holm({name: block[key] for name, block in blocks.items()})
        for name, block in blocks.items():
            block[f"{key}_holm"] = corrected[name]


def rank(summary: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return the place of each method by the mean of its figure, best first; equal means share a place."""
    means = {method: values["mean"] for method, values in summary.items() if not math.isnan(values["mean"])}
    return {method: 1 + sum(other > mean for other in means.values()) for method, mean in means.items()}
