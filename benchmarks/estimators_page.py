"""Write the page of `estimators.py`: bias, coverage and ranking of the estimators."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
import sklearn

import equipoise

HEAD = """# How good the estimators of the learning state are

Written by `make diagnoses` (benchmarks/estimators.py); not edited by hand.

The features are synthetic: Gaussian classes in 32 dimensions. The overfitting is known: training samples are
moved toward the mean of their class by 0, 0.15, 0.3 or 0.5 of their distance (the pull), validation samples
are not. The true gap is the gap of 6,000 training and 6,000 validation samples with the same class means; it
is 0 without a pull. Bias and spread are the mean and the standard deviation of the error of the signed gap
(training minus validation). A false alarm is a 95 % interval that excludes 0 although the pull is 0. Coverage
is the share of intervals that contain the true gap; it should be 0.95. Pairs in order is the share of pairs
of modalities of one draw (any separations, different pulls) in which the modality with the larger pull has
the larger gap. This is the question that a diagnosis answers; guessing gives 0.5. Seconds are CPU seconds per
modality.

The best estimator was chosen on the same draws, so small differences between the top estimators may be due to
chance. Sizes with fewer draws have less weight (see the conditions).
"""


def page(found: pd.DataFrame, mosi: pd.DataFrame | None, asked: int) -> str:
    """Return the page."""
    overall = summary(found).sort_values("pairs in order", ascending=False)
    parts = [HEAD, verdict(overall), "## All sizes, classes and separations\n", table(overall)]
    for column, title in (
        ("train", "training samples"),
        ("classes", "classes"),
        ("separation", "separation"),
    ):
        parts.append(f"## By {title}\n")
        for what in ("bias", "false alarms", "coverage", "pairs in order"):
            split = {value: summary(part)[what] for value, part in found.groupby(column)}
            parts += [f"{what.capitalize()}:\n", table(pd.DataFrame(split).loc[overall.index])]
    if mosi is not None:
        parts += [MOSI, table(mosi.groupby(["estimator", "modality"])["gap"].agg(size_of_gap).unstack())]
    parts += ["## Conditions\n", conditions(found, asked)]
    return "\n".join(parts)


MOSI = """## CMU-MOSI

The training part of the features, split again by video into 80 % and 20 %, five times. The encoders were
trained on both parts, so the true gap is 0. Mean absolute gap:
"""


def size_of_gap(gaps: pd.Series) -> float:
    """Return the mean absolute gap."""
    return float(gaps.abs().mean())


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Return one row per estimator."""
    error = found["gap"] - found["truth"]
    plain = found["pull"] == 0
    work = found.assign(
        error=error,
        alarm=((found["low"] > 0) | (found["high"] < 0)).where(plain).astype(float),
        held=((found["low"] <= found["truth"]) & (found["truth"] <= found["high"])).astype(float),
    )
    grouped = work.groupby("estimator")
    return pd.DataFrame(
        {
            "bias": grouped["error"].mean(),
            "bias without over-fitting": work[plain].groupby("estimator")["error"].mean(),
            "spread": grouped["error"].std(),
            "false alarms": grouped["alarm"].mean(),
            "coverage": grouped["held"].mean(),
            "pairs in order": pd.Series({name: in_order(part) for name, part in grouped}),
            "seconds": grouped["seconds"].mean(),
        }
    )


def in_order(found: pd.DataFrame) -> float:
    """Return the share of pairs of one draw whose gaps are in the order of their pulls; ties count 0.5."""
    return float(np.mean(list(_pairs(found))))


def _pairs(found: pd.DataFrame) -> Iterator[float]:
    for _, draw in found.groupby(["classes", "train", "seed"]):
        modalities = list(zip(draw["pull"], draw["gap"], strict=True))
        for (pull, gap), (other_pull, other_gap) in combinations(modalities, 2):
            if pull != other_pull:
                yield 0.5 + 0.5 * float(np.sign((gap - other_gap) * (pull - other_pull)))


def verdict(overall: pd.DataFrame) -> str:
    """Describe in words which estimator is best, and by how much."""
    paper, best = overall.loc["purity, paper"], overall.iloc[0]
    calm = overall[overall["false alarms"] <= 0.1].iloc[:1]
    text = (
        f"**{overall.index[0]}** ranks modalities best: {best['pairs in order']:.3f} of the pairs are in "
        f"order, compared with {paper['pairs in order']:.3f} for the paper's estimator. Without overfitting, "
        f"the paper's estimator raises a false alarm in {paper['false alarms']:.0%} of the cases "
        f"({overall.index[0]}: {best['false alarms']:.0%})."
    )
    if len(calm):
        row = calm.iloc[0]
        text += (
            f" The best estimator with at most 10 % false alarms is **{calm.index[0]}**: "
            f"{row['pairs in order']:.3f} in order, {row['false alarms']:.0%} false alarms, coverage "
            f"{row['coverage']:.2f}."
        )
    return text + "\n"


def conditions(found: pd.DataFrame, asked: int) -> str:
    """Describe the number of measurements, the versions and the machine."""
    draws = found.groupby("train")["seed"].nunique()
    listed = ", ".join(f"{count} for {size} training samples" for size, count in draws.items())
    return (
        f"- Draws (seeds from 0): {listed}; truths from seed 1000 (`--draws {asked}`)\n"
        f"- {len(found)} measurements, one thread each; equipoise {equipoise.__version__}, numpy "
        f"{np.__version__}, scikit-learn {sklearn.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}\n"
    )


def table(frame: pd.DataFrame) -> str:
    """Return a Markdown table with three decimal places."""
    head = ["", *(str(column) for column in frame.columns)]
    rows = [head, ["---"] * len(head)]
    rows += [
        [str(name), *(f"{value:.3f}" for value in row)]
        for name, row in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
