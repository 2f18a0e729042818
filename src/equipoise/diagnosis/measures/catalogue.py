"""All measures of separability behind one small interface, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from equipoise.diagnosis.measures import clusters, geometry, predictors
from equipoise.diagnosis.measures.scores import Fitting, Score, Splits

CAP: Final = 5000
"""Samples of a split above which measures of all pairs, or of many passes, score a stratified part."""


@dataclass(frozen=True)
class Measure:
    """A measure of how well features tell their target.

    Attributes:
        name: its name in the options.
        summary: what it is, in a line.
        target: whether it takes classes, a continuous target, or several labels a sample.
        score_splits: function of both splits and the choices of a fit that gives the score of either split.
        higher_is_better: whether the published index rises with separability. Where it falls, the score is
            `1 / (1 + index)`: a gap then has the sign and the bounds that it has under the other measures.
        is_share: whether it is a share of samples, which can be corrected for chance.
        cap: samples of a split that are scored at most, in proportion to the classes, unless `max_samples`
            says otherwise; None scores all.
    """

    name: str
    summary: str
    score_splits: Callable[[Splits, Fitting], tuple[Score, Score]]
    target: Literal["classes", "continuous", "labels"] = "classes"
    higher_is_better: bool = True
    is_share: bool = False
    cap: int | None = None

    def pair(self, splits: Splits, how: Fitting) -> tuple[Score, Score]:
        """Return the scores of the training and the validation split; more is more separable."""
        train, val = self.score_splits(splits, how)
        return (train, val) if self.higher_is_better else (_risen(train), _risen(val))


def _risen(score: Score) -> Score:
    return Score(lambda *columns: 1.0 / (1.0 + score.statistic(*columns)), score.columns)


MEASURES: Final[Mapping[str, Measure]] = {
    measure.name: measure
    for measure in (
        Measure(
            "purity",
            "share of samples whose class is the majority of their k-means cluster (the paper's measure)",
            clusters.purity_pair,
            is_share=True,
        ),
        Measure(
            "nmi", "normalised mutual information between k-means clusters and classes", clusters.nmi_pair
        ),
        Measure("ari", "adjusted Rand index between k-means clusters and classes", clusters.ari_pair),
        Measure(
            "knn",
            "accuracy of the 5 nearest neighbours, a sample not being its own",
            predictors.neighbours_pair,
            is_share=True,
            cap=CAP,
        ),
        Measure(
            "nearest-class-mean",
            "accuracy of the nearest class centroid",
            predictors.centroid_pair,
            is_share=True,
        ),
        Measure(
            "linear-probe",
            "accuracy of a logistic regression on the features",
            predictors.probe_pair,
            is_share=True,
            cap=CAP,
        ),
        Measure("silhouette", "mean silhouette of the classes, -1 to 1", geometry.silhouette_pair, cap=CAP),
        Measure(
            "davies-bouldin",
            "1 / (1 + Davies-Bouldin index) of the classes, so that more is more separable",
            geometry.davies_bouldin_pair,
            higher_is_better=False,
        ),
        Measure(
            "binned-purity",
            "purity with a continuous target cut into quantile bins",
            clusters.purity_pair,
            target="continuous",
            is_share=True,
        ),
        Measure(
            "ridge-r2",
            "R^2 of a ridge regression for a continuous target",
            predictors.ridge_pair,
            target="continuous",
        ),
        Measure(
            "knn-r2",
            "R^2 of the mean of the 5 nearest neighbours for a continuous target, a sample not being its own",
            predictors.neighbours_r2_pair,
            target="continuous",
            cap=CAP,
        ),
        Measure(
            "linear-map",
            "mean average precision of a ridge regression of each label, for several labels a sample",
            predictors.linear_labels_pair,
            target="labels",
        ),
        Measure(
            "knn-map",
            "mean average precision of the labels of the 5 nearest neighbours, for several labels a sample",
            predictors.neighbour_labels_pair,
            target="labels",
            cap=CAP,
        ),
    )
}
