"""All measures of separability, by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from equipoise.diagnosis.measures import clusters, geometry, predictors
from equipoise.diagnosis.measures.prediction import (
    hits_of_logits,
    mean_average_precision,
    predicted_pair,
    r2,
)
from equipoise.diagnosis.measures.scores import Measure, each_split

AUXILIARY_HEAD: Final = "auxiliary-head"
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
            clusters=True,
        ),
        Measure(
            "nmi",
            "normalised mutual information between k-means clusters and classes",
            partial(clusters.agreement_pair, statistic=clusters.mutual_information),
            clusters=True,
        ),
        Measure(
            "ari",
            "adjusted Rand index between k-means clusters and classes",
            partial(clusters.agreement_pair, statistic=clusters.adjusted_rand_index),
            clusters=True,
        ),
        Measure(
            "knn",
            "accuracy of the 5 nearest neighbours, without the sample itself",
            partial(predicted_pair, fit=predictors.fit_majority),
            is_share=True,
            cap=CAP,
        ),
        Measure(
            "nearest-class-mean",
            "accuracy of the nearest class centroid",
            partial(predicted_pair, fit=predictors.fit_centroids),
            needs="classes",
            is_share=True,
        ),
        Measure(
            "linear-probe",
            "accuracy of a logistic regression on the features",
            partial(predicted_pair, fit=predictors.fit_probe),
            needs="classes",
            is_share=True,
            cap=CAP,
        ),
        Measure(
            AUXILIARY_HEAD,
            "accuracy of the modality's own head in the model, whose logits are given in place of features",
            partial(each_split, score=hits_of_logits),
            is_share=True,
            reads_logits=True,
        ),
        Measure(
            "silhouette",
            "mean silhouette of the classes, -1 to 1",
            partial(each_split, score=geometry.silhouette),
            needs="groups",
            cap=CAP,
        ),
        Measure(
            "davies-bouldin",
            "1 / (1 + Davies-Bouldin index) of the classes; higher is more separable",
            partial(each_split, score=geometry.davies_bouldin),
            needs="groups",
            higher_is_better=False,
        ),
        Measure(
            "binned-purity",
            "purity of a continuous target in quantile bins",
            clusters.purity_pair,
            target="continuous",
            is_share=True,
            clusters=True,
        ),
        Measure(
            "ridge-r2",
            "R^2 of a ridge regression, for a continuous target",
            partial(predicted_pair, fit=predictors.fit_ridge, statistic=r2),
            target="continuous",
        ),
        Measure(
            "knn-r2",
            "R^2 of the mean of the 5 nearest neighbours, for a continuous target, without the sample itself",
            partial(predicted_pair, fit=predictors.fit_neighbours, statistic=r2),
            target="continuous",
            cap=CAP,
        ),
        Measure(
            "linear-map",
            "mean average precision of a ridge regression of each label, for several labels per sample",
            partial(predicted_pair, fit=predictors.fit_ridge, statistic=mean_average_precision),
            target="labels",
        ),
        Measure(
            "knn-map",
            "mean average precision of the labels of the 5 nearest neighbours, for several labels per sample",
            partial(predicted_pair, fit=predictors.fit_neighbours, statistic=mean_average_precision),
            target="labels",
            cap=CAP,
        ),
    )
}
