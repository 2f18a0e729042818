"""Scalers, metrics and assignments against separate definitions."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from equipoise.diagnosis import diagnose, separability
from equipoise.diagnosis.features.scaling import scale_features
from equipoise.diagnosis.measures.clusters import adjusted_rand_index, mutual_information
from equipoise.diagnosis.options import ACCURACY_LIKE, CONTINUOUS, LABELS, METRICS
from equipoise.types import DataError

SCALERS = ("minmax-per-split", "minmax-train", "standard-train", "l2", "none")


def to_range(x, low, high):
    span = np.where(high > low, high - low, 1.0)
    return -1 + 2 * (x - low) / span


def hand_scaled(train, val, scaler):
    if scaler == "minmax-per-split":
        return tuple(to_range(x, x.min(0), x.max(0)) for x in (train, val))
    if scaler == "minmax-train":
        return tuple(to_range(x, train.min(0), train.max(0)) for x in (train, val))
    if scaler == "standard-train":
        spread = np.sqrt(((train - train.mean(0)) ** 2).mean(0))
        spread = np.where(spread > 1e-9, spread, 1.0)
        return tuple((x - train.mean(0)) / spread for x in (train, val))
    if scaler == "l2":
        norms = [np.sqrt((x**2).sum(1, keepdims=True)) for x in (train, val)]
        return tuple(x / np.where(n > 0, n, 1.0) for x, n in zip((train, val), norms, strict=True))
    return train, val


@pytest.fixture
def splits(blobs):
    train, y = blobs(n=150, classes=3, separation=0.6, seed=1)
    val, y_val = blobs(n=60, classes=3, separation=0.6, seed=2)
    return train * np.arange(1, 9), y, val * np.arange(1, 9) + 0.5, y_val


def measured(train, y, val, y_val, **options):
    state = diagnose({"m": train}, y, {"m": val}, y_val, **options)["m"]
    return state.train_score, state.val_score


@pytest.mark.parametrize("scaler", SCALERS)
def test_scalers(splits, scaler):
    train, y, val, y_val = (np.array(part) for part in splits)
    train[:, 2] = 4.0  # a constant feature
    train[5], val[3] = 0.0, 0.0  # a sample of norm 0
    expected = hand_scaled(train, val, scaler)
    for scaled, by_hand in zip(scale_features(train, val, scaler), expected, strict=True):
        assert scaled == pytest.approx(by_hand, abs=1e-9)
    assert measured(train, y, val, y_val, scaler=scaler) == pytest.approx(
        measured(expected[0], y, expected[1], y_val, scaler="none"), abs=1e-6
    )


def test_scalers_differ(splits):
    assert len({measured(*splits, scaler=scaler) for scaler in SCALERS}) >= 4


@pytest.mark.parametrize("scaler", ["minmax-per-split", "standard-train"])
def test_pca_of_the_scaled_training_features(splits, scaler):
    train, _, val, _ = splits
    scaled = hand_scaled(train, val, scaler)
    centre = scaled[0].mean(0)
    axes = np.linalg.svd(scaled[0] - centre, full_matrices=False)[2][:3]
    for reduced, x in zip(scale_features(train, val, scaler, pca=3), scaled, strict=True):
        assert np.abs(reduced) == pytest.approx(np.abs((x - centre) @ axes.T), abs=1e-9)
    assert scale_features(train, val, scaler, pca=99)[0].shape == train.shape
    assert scale_features(train[:4], val, scaler, pca=6)[0].shape == (4, 4)


def test_transfer_uses_the_nearest_centre_named_by_the_training_majority(splits):
    train, y, val, y_val = splits
    x_train, x_val = hand_scaled(train, val, "minmax-train")
    centres = KMeans(3, random_state=0, n_init=10).fit(x_train).cluster_centers_

    def nearest(x):
        return [int(np.argmin([((row - centre) ** 2).sum() for centre in centres])) for row in x]

    clusters = nearest(x_train)
    names = {
        k: Counter(label for label, c in zip(y, clusters, strict=True) if c == k).most_common(1)[0][0]
        for k in set(clusters)
    }
    expected = tuple(
        np.mean([names[c] == label for c, label in zip(nearest(x), labels, strict=True)])
        for x, labels in ((x_train, y), (x_val, y_val))
    )
    assert 0.4 < expected[1] < 1
    options = {"assign": "transfer", "scaler": "minmax-train"}
    assert measured(*splits, **options) == pytest.approx(expected, abs=1e-6)
    assert measured(*splits, **options) != measured(*splits, scaler="minmax-train")


def entropy(labels):
    p = np.array(list(Counter(labels).values())) / len(labels)
    return -(p * np.log(p)).sum()


def slow_nmi(clusters, labels):
    pairs = list(zip(clusters, labels, strict=True))
    mutual = entropy(clusters) + entropy(labels) - entropy(pairs)
    return mutual / ((entropy(clusters) + entropy(labels)) / 2)


def slow_ari(clusters, labels):
    """Agreement on pairs of samples, 1 for the same partition and 0 on average for a random one."""
    n = len(labels)
    upper = np.triu_indices(n, 1)
    same_c = np.equal.outer(clusters, clusters)[upper]
    same_l = np.equal.outer(labels, labels)[upper]
    expected = same_c.sum() * same_l.sum() / len(same_c)
    return ((same_c & same_l).sum() - expected) / ((same_c.sum() + same_l.sum()) / 2 - expected)


@pytest.mark.parametrize(("metric", "slow"), [("nmi", slow_nmi), ("ari", slow_ari)])
def test_agreement_of_clusters_and_classes(splits, metric, slow):
    train, y, val, y_val = splits
    fits = {}
    for name, x in zip(("train", "val"), hand_scaled(train, val, "minmax-per-split"), strict=True):
        fits[name] = KMeans(3, random_state=0, n_init=10).fit(x)
    expected = slow(fits["train"].labels_, y), slow(fits["val"].labels_, y_val)
    assert measured(*splits, metric=metric) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("own", "theirs"),
    [(mutual_information, normalized_mutual_info_score), (adjusted_rand_index, adjusted_rand_score)],
)
def test_agreement_equals_that_of_scikit_learn(own, theirs):
    rng = np.random.default_rng(0)
    one, each, halves = np.zeros(6, np.int64), np.arange(6), np.array([0, 0, 0, 1, 1, 1])
    pairs = [*product((one, each, halves), repeat=2), (each, each[::-1])]
    pairs += [tuple(rng.integers(2 + k // 5, size=(2, 5 + 3 * k))) for k in range(30)]
    for clusters, labels in pairs:
        assert own(clusters, labels) == pytest.approx(theirs(labels, clusters), abs=1e-12)


def slow_knn(x_train, y, x):
    """The five nearest neighbours without the sample itself, if it is among them."""
    out = []
    for row in x:
        distance = ((x_train - row) ** 2).sum(1)
        itself = int(distance.min() == 0)
        nearest = np.argsort(distance)[itself : 5 + itself]
        votes = Counter(y[nearest])
        out.append(min(label for label in votes if votes[label] == max(votes.values())))
    return np.array(out)


def slow_nearest_mean(x_train, y, x):
    means = [x_train[y == label].mean(0) for label in range(3)]
    return np.array([int(np.argmin([((row - mean) ** 2).sum() for mean in means])) for row in x])


@pytest.mark.parametrize("assign", ["refit", "transfer"])
@pytest.mark.parametrize(("metric", "slow"), [("knn", slow_knn), ("nearest-class-mean", slow_nearest_mean)])
def test_classifiers(splits, metric, slow, assign):
    train, y, val, y_val = splits
    train, val = hand_scaled(train, val, "standard-train")
    reference = (train, y) if assign == "transfer" else (val, y_val)
    expected = np.mean(slow(train, y, train) == y), np.mean(slow(*reference, val) == y_val)
    found = measured(*splits, metric=metric, assign=assign, scaler="standard-train")
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scaler", SCALERS)
def test_logits_are_neither_scaled_nor_reduced(splits, scaler):
    train, y, val, y_val = splits
    expected = [
        sum(
            max(range(8), key=lambda place, row=row: row[place]) == label
            for row, label in zip(x, of, strict=True)
        )
        / len(of)
        for x, of in ((train, y), (val, y_val))
    ]
    options = {"metric": "auxiliary-head", "scaler": scaler, "pca": 2, "assign": "cross-fit"}
    assert measured(*splits, **options) == pytest.approx(tuple(expected), abs=1e-12)
    with pytest.raises(DataError, match="there are 2 logits and 3 classes"):
        measured(train[:, :2], y, val[:, :2], y_val, metric="auxiliary-head")


def test_silhouette(splits):
    _, _, val, y_val = splits
    x = to_range(val, val.min(0), val.max(0))
    distance = np.sqrt(((x[:, None] - x[None]) ** 2).sum(2))
    widths = []
    for i, label in enumerate(y_val):
        inside = (y_val == label) & (np.arange(len(x)) != i)
        a = distance[i, inside].mean()
        b = min(distance[i, y_val == other].mean() for other in {0, 1, 2} - {label})
        widths.append((b - a) / max(a, b))
    assert measured(*splits, metric="silhouette")[1] == pytest.approx(np.mean(widths), abs=1e-6)


def test_linear_probe_separates_lines(splits):
    train, y, val, y_val = splits
    train = np.column_stack([train, y == 0, y == 1]) * 1.0
    val = np.column_stack([val, np.zeros((len(val), 2))])
    scores = measured(train, y, val, y_val, metric="linear-probe", assign="transfer", scaler="standard-train")
    assert scores[0] > 0.99
    assert scores[1] < 0.9


def test_ridge_r2(splits):
    train, _, val, _ = splits
    rng = np.random.default_rng(0)
    target, target_val = train @ np.ones(8) + rng.normal(size=150), val @ np.ones(8) + rng.normal(size=60)
    centred = train - train.mean(0)
    weights = np.linalg.solve(centred.T @ centred + np.eye(8), centred.T @ (target - target.mean()))

    def r2(x, t):
        residual = t - target.mean() - (x - train.mean(0)) @ weights
        return 1 - (residual**2).sum() / ((t - t.mean()) ** 2).sum()

    found = measured(train, target, val, target_val, metric="ridge-r2", assign="transfer", scaler="none")
    assert found == pytest.approx((r2(train, target), r2(val, target_val)), abs=1e-6)


def test_binned_purity(splits):
    train, _, val, _ = splits
    target, target_val = train[:, 0] ** 3, val[:, 0] ** 3
    edges = [np.quantile(target, q) for q in (0.25, 0.5, 0.75)]
    binned = [np.array([sum(t >= e for e in edges) for t in ts]) for ts in (target, target_val)]
    expected = measured(train, binned[0], val, binned[1])
    assert measured(train, target, val, target_val, metric="binned-purity", bins=4) == expected


def test_chance_of_bins_with_ties_is_the_share_of_the_largest_bin(splits):
    """Most targets are 0, so that 10 quantile bins become 2."""
    train, _, val, _ = splits
    target, target_val = (np.arange(150) % 5 == 0) * 1.0, (np.arange(60) % 5 == 0) * 1.0
    plain = measured(train, target, val, target_val, metric="binned-purity")
    corrected = measured(train, target, val, target_val, metric="binned-purity", chance_correct=True)
    assert plain == pytest.approx((0.8, 0.8), abs=0.03)
    assert corrected == pytest.approx(tuple((p - 0.8) / 0.2 for p in plain), abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_splits_have_no_gap_with_any_option(blobs, metric):
    x, y = blobs(n=36, classes=3, d=4, separation=0.6)
    if metric in CONTINUOUS:
        y = x[:, 0] + x[:, 1] ** 2
    elif metric in LABELS:
        y = np.stack([y % 2, y == 0], axis=1).astype(int)
    choices = product(("refit", "transfer", "cross-fit"), (False, True), SCALERS)
    for index, (assign, matched, scaler) in enumerate(choices):
        chance, pca = metric in ACCURACY_LIKE and index % 2 == 1, (None, 2)[index % 3 == 0]
        state = diagnose(
            {"m": x},
            y,
            {"m": x.copy()},
            y.copy(),
            metric=metric,
            assign=assign,
            matched_size=matched,
            chance_correct=chance,
            scaler=scaler,
            pca=pca,
            n_init=1,
            repeats=2 if matched else 1,
            max_samples=30 if matched else None,
            bins=3,
            folds=2,
            bootstrap=0,
        )["m"]
        assert state.gap == 0.0, (assign, matched, chance, scaler, pca)
        assert state.strength(lam=100.0) == 0.0


@pytest.mark.parametrize("seed", [1, 195, 375, 615, 675, 915, 1035])
@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_equal_splits_of_coarse_features_have_no_gap(seed):
    """Points on a grid are between centres, where scikit-learn's fit and assignment may differ."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 3, (40, 1)).astype(np.float32), rng.integers(0, 4, 40)
    options = {"assign": "transfer", "metric": "nmi", "n_init": 2, "kmeans_seed": seed, "n_clusters": 4}
    for scaler in ("none", "minmax-train"):
        assert diagnose({"m": x}, y, {"m": x}, y, scaler=scaler, **options)["m"].gap == 0.0


def test_measures_undefined_for_so_few_samples_are_dropped_unless_requested() -> None:
    generator = np.random.default_rng(0)
    train, val = ({"a": generator.normal(size=(n, 4))} for n in (9, 3))
    found = separability(train, np.arange(9) % 3, val, np.arange(3))  # one validation sample a class
    assert "silhouette" not in found
    assert "purity" in found
    with pytest.raises(DataError, match="silhouette"):
        separability(train, np.arange(9) % 3, val, np.arange(3), ["silhouette"])
    val["a"][0, 0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        separability(train, np.arange(9) % 3, val, np.arange(3))
