"""All measures of separability, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from equipoise.diagnosis.measures import clusters, geometry, predictors
from equipoise.diagnosis.measures.scores import Measure

CAP: Final = 5000
"""Samples of a split above which expensive measures (all pairs, many steps) score a stratified subset."""

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
            "accuracy of the 5 nearest neighbours, without the sample itself",
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
            "1 / (1 + Davies-Bouldin index) of the classes; higher is more separable",
            geometry.davies_bouldin_pair,
            higher_is_better=False,
        ),
        Measure(
            "binned-purity",
            "purity of a continuous target in quantile bins",
            clusters.purity_pair,
            target="continuous",
            is_share=True,
        ),
        Measure(
            "ridge-r2",
            "R^2 of a ridge regression, for a continuous target",
            predictors.ridge_pair,
            target="continuous",
        ),
        Measure(
            "knn-r2",
            "R^2 of the mean of the 5 nearest neighbours, for a continuous target, without the sample itself",
            predictors.neighbours_r2_pair,
            target="continuous",
            cap=CAP,
        ),
        Measure(
            "linear-map",
            "mean average precision of a ridge regression of each label, for several labels per sample",
            predictors.linear_labels_pair,
            target="labels",
        ),
        Measure(
            "knn-map",
            "mean average precision of the labels of the 5 nearest neighbours, for several labels per sample",
            predictors.neighbour_labels_pair,
            target="labels",
            cap=CAP,
        ),
    )
}
