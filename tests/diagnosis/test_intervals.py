"""The interval of a gap: centred, of the right width, without effect on scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

from equipoise.diagnosis import diagnose
from equipoise.diagnosis.measures.clusters import cluster_purity, majorities
from equipoise.diagnosis.measures.scores import Score, share
from equipoise.diagnosis.options import CONTINUOUS, LABELS, METRICS


@pytest.mark.parametrize("metric", METRICS)
def test_an_interval_contains_its_gap_and_changes_no_score(blobs, metric):
    (x, y), (x_val, y_val) = blobs(n=90, seed=1), blobs(n=45, seed=2)
    if metric in CONTINUOUS:
        y, y_val = x[:, 0] * 1.0, x_val[:, 0] * 1.0
    elif metric in LABELS:
        y, y_val = (np.stack([own % 2, own == 0], axis=1).astype(int) for own in (y, y_val))
    splits = {"m": x}, y, {"m": x_val}, y_val
    options = {"metric": metric, "n_init": 1, "assign": "cross-fit"}
    plain, given = diagnose(*splits, **options, bootstrap=0)["m"], diagnose(*splits, **options)["m"]
    assert (plain.train_score, plain.val_score) == (given.train_score, given.val_score)
    assert plain.interval is None
    low, high = given.interval
    assert low < given.train_score - given.val_score < high


def test_a_resample_of_hits_has_the_binomial_variance():
    score = Score(share, (np.arange(400) % 4 == 0,))
    draws = [score.resampled(np.random.default_rng(seed)) for seed in range(2000)]
    assert np.mean(draws) == pytest.approx(0.25, abs=0.003)
    assert np.std(draws) == pytest.approx(math.sqrt(0.25 * 0.75 / 400), rel=0.08)


def test_keeping_cluster_names_does_not_increase_a_resample():
    """Clusters of noise: naming them anew in each resample increases purity, keeping the names does not."""
    rng = np.random.default_rng(0)
    clusters, labels = rng.integers(0, 20, 200), rng.integers(0, 20, 200)
    hits = Score(share, (majorities(clusters, labels, 20)[clusters] == labels,))
    assert hits.value == cluster_purity(clusters, labels)
    rows = [rng.integers(200, size=200) for _ in range(300)]
    lifted = np.mean([cluster_purity(clusters[r], labels[r]) for r in rows])
    kept = np.mean([hits.resampled(rng) for _ in range(300)])
    assert lifted > hits.value + 0.08
    assert kept == pytest.approx(hits.value, abs=0.01)


def test_cross_fitted_intervals_contain_zero_without_overfitting(blobs):
    held = 0
    for seed in range(30):
        (x, y), (x_val, y_val) = blobs(n=150, seed=seed), blobs(n=60, seed=1000 + seed)
        state = diagnose({"m": x}, y, {"m": x_val}, y_val, metric="nearest-class-mean", assign="cross-fit")[
            "m"
        ]
        held += state.interval[0] <= 0 <= state.interval[1]
    assert held >= 26
