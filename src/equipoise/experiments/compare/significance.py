"""Tests of paired differences that assume no normal distribution, and their correction for many methods.

Few seeds allow little, whatever the test. With n seeds there are 2^n ways of giving signs to the
differences, so the smallest two-sided p-value of the Wilcoxon test is 2^(1-n): 0.25 for 3 seeds, 0.0625 for
5, and below 0.05 only from 6 seeds on. A bootstrap draws from the n differences that there are, so over few
of them its interval is too narrow; the one by Student's t is the more careful of the two.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
from scipy import stats

LEVEL: Final = 0.95
"""Confidence of every interval."""
FEW_SEEDS: Final = 6
"""Seeds below which no Wilcoxon p-value can reach 0.05, and a bootstrap interval is too narrow."""
RESAMPLES: Final = 9999
SEED: Final = 0
DIGITS: Final = 12
"""Compared decimals: 0.82 - 0.81 and 0.81 - 0.80 are the same difference, though not the same float."""
EXACT: Final = 13
"""Differences up to which ties are handled by enumerating all signs: 8,192 of them."""


def bootstrap_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean by the bootstrap: BCa, or percentiles where BCa is not defined.

    The resamples are drawn from a fixed seed: equal differences give equal intervals. The ends are NaN for
    fewer than two differences, and for differences that are all equal, as resamples of them are equal too and
    say nothing about the spread; zero where all are zero.
    """
    values = np.round(np.asarray(differences, dtype=float), DIGITS)
    if len(values) < 2:
        return math.nan, math.nan
    if np.ptp(values) == 0:
        return (0.0, 0.0) if values[0] == 0 else (math.nan, math.nan)
    low, high = _bootstrap(values, "BCa")
    return (low, high) if math.isfinite(low) and math.isfinite(high) else _bootstrap(values, "percentile")


def _bootstrap(values: np.ndarray, method: Literal["BCa", "percentile"]) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that BCa is not defined is seen by its NaN
        found = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            method=method,
            rng=np.random.default_rng(SEED),
        )
    interval = found.confidence_interval
    return float(interval.low), float(interval.high)


def wilcoxon_p(differences: Sequence[float]) -> float:
    """Return the p-value of the two-sided Wilcoxon signed-rank test.

    It is exact up to 50 differences without ties, and up to 13 with them; beyond it is the normal
    approximation. Differences of zero are dropped (Wilcoxon's own way), so each makes the smallest possible
    p-value twice as large. It is 1 where all differences are zero, and NaN for fewer than two.
    """
    values = np.round(np.asarray(differences, dtype=float), DIGITS)
    if len(values) < 2:
        return math.nan
    values = values[values != 0]
    if not len(values):
        return 1.0
    tied = len(np.unique(np.abs(values))) < len(values)
    if tied and len(values) <= EXACT:
        return _exact_with_ties(values)
    method: Final = "approx" if tied or len(values) > 50 else "exact"
    return float(stats.wilcoxon(values, method=method).pvalue)


def _exact_with_ties(values: np.ndarray) -> float:
    """Return the share of all signs whose sum of ranks is as far from its middle as that of the values."""
    ranks = stats.rankdata(np.abs(values))
    signs = (np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1
    middle = ranks.sum() / 2
    distances = np.abs(signs @ ranks - middle)
    return float(np.mean(distances >= abs(ranks[values > 0].sum() - middle) - 1e-9))


def smallest_wilcoxon_p(seeds: int) -> float:
    """Return the smallest two-sided p-value that the Wilcoxon test can give: 2^(1-n)."""
    return min(1.0, 2.0 ** (1 - seeds))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct the p-values of one family of methods by Holm's step-down method.

    A method without a test has NaN, which stays so and does not count in the family.
    """
    # The function of statsmodels collects garbage each time, which takes longer than all other statistics.
    family = {name: value for name, value in p_values.items() if math.isfinite(value)}
    order = sorted(family, key=family.__getitem__)
    scaled = [family[name] * (len(order) - place) for place, name in enumerate(order)]
    found = dict(zip(order, np.minimum(np.maximum.accumulate(scaled), 1.0).tolist(), strict=True))
    return {name: found.get(name, math.nan) for name in p_values}
