"""Methods over several datasets: mean ranks, the Friedman test, and Nemenyi's critical difference.

The procedure is that of Demšar (JMLR 7, 2006). On each dataset the methods are ranked by mean test accuracy,
1 being the best and ties sharing their mean rank. Friedman's test decides whether the mean ranks differ at
all; if so, two methods differ if their mean ranks do by at least CD = q * sqrt(k (k + 1) / (6 N)), for k
methods on N datasets, q being the 95 % point of the studentized range over sqrt(2).
"""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from equipoise.experiments.compare.comparison import Comparison
from equipoise.types import UsageError

MIN_DATASETS: Final = 2
MIN_METHODS: Final = 3
FEW_DATASETS: Final = 5
"""Datasets below which the tests have little power."""
ALPHA: Final = 0.05
PER_MODALITY: Final = "unimodal:"
"""Methods of this family are left out: what their names mean differs from dataset to dataset."""


@dataclass(frozen=True)
class AcrossDatasets:
    """The ranking of methods over several datasets.

    Attributes:
        datasets: their names.
        names: the methods, best mean rank first.
        mean_ranks: over the datasets, 1 being the best.
        ranks: a row a method and a column a dataset; ranks among these methods alone.
        friedman_p: p-value of the Friedman test; 1 where all methods tie everywhere.
        critical_difference: of mean ranks, by Nemenyi at 5 %.
        p_values: Nemenyi's p-values, method by method.
        left_out: methods that are not ranked on every dataset, with the reason.
        experimental: the methods that are experimental.
    """

    datasets: tuple[str, ...]
    names: tuple[str, ...]
    mean_ranks: Mapping[str, float]
    ranks: pd.DataFrame
    friedman_p: float
    critical_difference: float
    p_values: pd.DataFrame
    left_out: Mapping[str, str] = field(default_factory=dict)
    experimental: frozenset[str] = frozenset()

    @property
    def few_datasets(self) -> bool:
        """Whether the datasets are so few that the tests have little power."""
        return len(self.datasets) < FEW_DATASETS

    @property
    def differ(self) -> bool:
        """Whether the Friedman test finds any difference at 5 %."""
        return self.friedman_p < ALPHA


def across_datasets(comparisons: Sequence[Comparison]) -> AcrossDatasets:
    """Rank the methods that several comparisons have in common.

    Args:
        comparisons: one a dataset.

    Raises:
        UsageError: there are fewer than two datasets or three common methods, a dataset is repeated, or a
            comparison is not ranked.
    """
    datasets = [str(comparison.summary["dataset"]) for comparison in comparisons]
    _check(comparisons, datasets)
    common, left_out = _common(comparisons, datasets)
    if len(common) < MIN_METHODS:
        raise UsageError(
            f"the datasets have {len(common)} ranked methods in common ({', '.join(common) or 'none'}); "
            f"expected at least {MIN_METHODS}. Run the missing ones with 'equipoise compare --resume'."
        )
    ranks = _ranks(comparisons, datasets, common)
    order = ranks.mean(axis=1).sort_values(kind="stable")
    ranks = ranks.loc[order.index]
    return AcrossDatasets(
        datasets=tuple(datasets),
        names=tuple(map(str, order.index)),
        mean_ranks={str(name): float(value) for name, value in order.items()},
        ranks=ranks,
        friedman_p=_friedman(ranks),
        critical_difference=critical_difference(len(common), len(datasets)),
        p_values=_nemenyi(ranks),
        left_out=left_out,
        experimental=_experimental(comparisons) & frozenset(common),
    )


def critical_difference(methods: int, datasets: int) -> float:
    """Return by how much two mean ranks must differ, by Nemenyi's test at 5 %."""
    quantile = float(stats.studentized_range.ppf(1 - ALPHA, methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * datasets))


def _check(comparisons: Sequence[Comparison], datasets: Sequence[str]) -> None:
    twice = [name for name, count in Counter(datasets).items() if count > 1]
    if len(set(datasets)) < MIN_DATASETS:
        found = f"found {len(set(datasets))}" + (f" ({datasets[0]})" if datasets else "")
        raise UsageError(
            f"{found}; expected comparisons of at least {MIN_DATASETS} datasets. Compare the methods on "
            "another one."
        )
    if twice:
        raise UsageError(
            f"there are {datasets.count(twice[0])} comparisons of the dataset {twice[0]}; expected one for "
            "each dataset, as repeated datasets are not independent. Give one of them."
        )
    for dataset, comparison in zip(datasets, comparisons, strict=True):
        if not comparison.ranked:
            reasons = "; ".join(
                comparison.summary.get("not_ranked_because") or ["the summary does not say why"]
            )
            raise UsageError(
                f"the methods are not ranked on {dataset} ({reasons}); expected a ranking on every dataset. "
                "Complete that comparison with 'equipoise compare --resume', or leave it out."
            )


def _common(comparisons: Sequence[Comparison], datasets: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the methods that are ranked everywhere, and why the others are left out."""
    held: dict[str, list[str]] = {}
    options: dict[str, set[str]] = {}
    for dataset, comparison in zip(datasets, comparisons, strict=True):
        for name, values in comparison.summary["methods"].items():
            ranked = held.setdefault(name, [])
            tuned = name in (comparison.summary.get("tuning") or {}).get("methods", {})
            own = "tuned on its data" if tuned else json.dumps(values.get("options"), sort_keys=True)
            options.setdefault(name, set()).add(own)
            if values.get("rank") is not None:
                ranked.append(dataset)
    common, left_out = [], {}
    for name, ranked in held.items():
        if name.startswith(PER_MODALITY):
            left_out[name] = "what it means differs by dataset"
        elif missing := [dataset for dataset in datasets if dataset not in ranked]:
            left_out[name] = f"no result on {', '.join(missing)}"
        elif len(options[name]) > 1:
            left_out[name] = "its options differ by dataset"
        else:
            common.append(name)
    return common, left_out


def _ranks(comparisons: Sequence[Comparison], datasets: Sequence[str], common: Sequence[str]) -> pd.DataFrame:
    means = {
        dataset: [float(comparison.summary["methods"][name]["mean"]) for name in common]
        for dataset, comparison in zip(datasets, comparisons, strict=True)
    }
    return pd.DataFrame(means, index=list(common)).round(12).rank(ascending=False, method="average")


def _experimental(comparisons: Sequence[Comparison]) -> frozenset[str]:
    return frozenset(
        name
        for comparison in comparisons
        for name, values in comparison.summary["methods"].items()
        if values.get("experimental")
    )


def _friedman(ranks: pd.DataFrame) -> float:
    """Return the p-value of the Friedman test; without any difference it is 1."""
    if (ranks.nunique(axis=0) == 1).all():
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(stats.friedmanchisquare(*ranks.to_numpy()).pvalue)


def _nemenyi(ranks: pd.DataFrame) -> pd.DataFrame:
    """Return Nemenyi's p-values; the rows are datasets to scikit-posthocs, the columns methods."""
    from scikit_posthocs import posthoc_nemenyi_friedman

    found = posthoc_nemenyi_friedman(ranks.to_numpy().T)
    return pd.DataFrame(np.asarray(found, dtype=float), index=ranks.index, columns=ranks.index)
