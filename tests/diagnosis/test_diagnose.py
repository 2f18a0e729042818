"""`diagnose` against reference values, and against slow definitions of purity, its gap and its options."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.preprocessing import MinMaxScaler

from equipoise.diagnosis import Diagnosis, DiagnosisOptions, LearningState, diagnose, estimate, purity
from equipoise.types import DataError, UnknownNameError, UsageError


def slow_purity(features, labels, seed=0):
    """Purity of scaled features."""
    k = len(set(labels))
    clusters = KMeans(k, random_state=seed, n_init=10).fit(features).labels_
    total = 0
    for cluster in range(k):
        inside = [label for label, c in zip(labels, clusters, strict=True) if c == cluster]
        total += max([inside.count(label) for label in set(inside)], default=0)
    return total / len(labels)


def minmax(x):
    return MinMaxScaler((-1, 1)).fit_transform(x)


@pytest.fixture
def splits(blobs):
    """Two modalities: "audio" overfitted (classes separable in train only), "video" not."""
    za, y = blobs(n=160, classes=4, separation=2.0, seed=1)
    zv, _ = blobs(n=160, classes=4, d=5, separation=0.0, seed=2)
    za_val, y_val = blobs(n=60, classes=4, separation=0.3, seed=3)
    zv_val, _ = blobs(n=60, classes=4, d=5, separation=0.0, seed=4)
    return {"audio": za, "video": zv}, y, {"audio": za_val, "video": zv_val}, y_val


def test_the_reference_call(splits):
    train, y, val, y_val = splits
    d = diagnose(train=train, train_labels=y, val=val, val_labels=y_val)
    assert isinstance(d, Diagnosis)
    assert list(d) == ["audio", "video"]
    for name in d:
        p_train, p_val = slow_purity(minmax(train[name]), y), slow_purity(minmax(val[name]), y_val)
        assert d[name].train_score == pytest.approx(p_train, abs=1e-6)
        assert d[name].val_score == pytest.approx(p_val, abs=1e-6)
        assert d[name].gap == pytest.approx(abs(p_train - p_val), abs=1e-6)
        assert d[name].strength(lam=3.0) == pytest.approx(math.tanh(3 * abs(p_train - p_val)), abs=1e-6)
        assert (d[name].n_train, d[name].n_val) == (160, 60)
        low, high = d[name].interval
        assert low < p_train - p_val < high
    assert d["audio"].gap > 0.3 > d["video"].gap
    frame = d.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.index) == ["audio", "video"]
    assert frame.loc["audio", "strength"] == d["audio"].strength(3.0)
    assert "audio" in str(d)
    assert f"{d['audio'].gap:.3f}" in str(d)


def test_tensors_arrays_and_class_names_give_the_same(splits):
    train, y, val, y_val = splits
    expected = diagnose(train, y, val, y_val)
    tensors = diagnose(
        {m: torch.tensor(z, requires_grad=True) for m, z in train.items()},
        torch.tensor(y),
        {m: torch.tensor(z) for m, z in val.items()},
        torch.tensor(y_val),
    )
    assert tensors == expected
    words = np.array(["d", "a", "c", "b"])
    named = diagnose(train, words[y], val, words[y_val])
    assert {m: s.gap for m, s in named.items()} == {m: s.gap for m, s in expected.items()}
    column = diagnose(train, pd.Series(words[y]), val, words[y_val].astype(object))
    assert column == named


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_any_number_of_modalities_with_any_names(blobs, count):
    names = ["", "audio.left", "видео", "the 3rd / one", "state", "0"][:count]
    train = {name: blobs(n=60, d=i + 1, seed=i)[0] for i, name in enumerate(names)}
    val = {name: blobs(n=30, d=i + 1, seed=i + 9)[0] for i, name in enumerate(names)}
    y, y_val = np.arange(60) % 3, np.arange(30) % 3
    d = diagnose(train, y, val, y_val)
    assert list(d) == names
    for name in names:  # each as if it were alone
        assert d[name] == diagnose({name: train[name]}, y, {name: val[name]}, y_val)[name]
    backward = diagnose(dict(reversed(train.items())), y, val, y_val)
    assert list(backward) == names[::-1]
    assert dict(backward) == dict(d)
    assert set(d.to_dict()) == set(names)


def test_same_input_gives_the_same_bits(splits):
    for options in ({}, {"preset": "robust"}, {"backend": "torch"}, {"max_samples": 50, "bootstrap": 50}):
        assert diagnose(*splits, **options) == diagnose(*splits, **options)


def test_random_streams_of_the_caller_are_unchanged(splits):
    before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    diagnose(*splits, preset="robust", backend="torch")
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_splits_of_different_precision(splits):
    train, y, val, y_val = splits
    single = {m: z.astype(np.float32) for m, z in train.items()}
    expected = diagnose(
        {m: z.astype(np.float64) for m, z in single.items()}, y, val, y_val, assign="transfer"
    )
    for backend in ("scikit-learn", "torch"):
        mixed = diagnose(single, y, val, y_val, assign="transfer", backend=backend)
        assert mixed["audio"].n_val == 60
        if backend == "scikit-learn":
            assert mixed == expected


def test_repeats_average_over_seeds(splits):
    train, y, val, y_val = splits
    state = diagnose(*splits, repeats=3, kmeans_seed=5)["audio"]
    scores = [slow_purity(minmax(val["audio"]), y_val, seed) for seed in (5, 6, 7)]
    assert state.val_score == pytest.approx(np.mean(scores), abs=1e-6)


def test_chance_correction(splits):
    train, y, val, y_val = splits
    plain, corrected = diagnose(*splits)["audio"], diagnose(*splits, chance_correct=True)["audio"]
    for score, adjusted, labels in (
        (plain.train_score, corrected.train_score, y),
        (plain.val_score, corrected.val_score, y_val),
    ):
        p0 = max(np.bincount(labels)) / len(labels)
        assert adjusted == pytest.approx((score - p0) / (1 - p0), abs=1e-9)
    with pytest.raises(UsageError, match="does not apply to the metric 'nmi'"):
        diagnose(*splits, chance_correct=True, metric="nmi")
    one = np.zeros(160, int)
    with pytest.raises(DataError, match="one class"):
        diagnose(splits[0], one, splits[2], one[:60], chance_correct=True)


def test_sign(splits):
    train, y, val, y_val = splits
    ahead, reverse = diagnose(*splits, sign="positive"), diagnose(val, y_val, train, y, sign="positive")
    assert ahead["audio"].gap == diagnose(*splits)["audio"].gap > 0
    assert reverse["audio"].gap == 0.0
    assert reverse["audio"].strength() == 0.0
    assert diagnose(val, y_val, train, y)["audio"].gap == diagnose(*splits)["audio"].gap


def recorded_subsets(monkeypatch, *splits, **options):
    subsets = []
    scaled_draws = estimate.scaled_draws

    def recorded(*arguments):
        for drawn in scaled_draws(*arguments):
            subsets.append(deepcopy(drawn))
            yield drawn

    monkeypatch.setattr(estimate, "scaled_draws", recorded)
    train, y, val, y_val = splits
    audio = {"audio": train["audio"]}, y, {"audio": val["audio"]}, y_val
    state = diagnose(*audio, scaler="none", **options)["audio"]
    return subsets, state


@pytest.mark.parametrize("swap", [False, True])
def test_matched_subsets_are_stratified_and_of_equal_size(splits, monkeypatch, swap):
    big, y, small, y_small = splits
    order = (small, y_small, big, y) if swap else (big, y, small, y_small)
    subsets, state = recorded_subsets(monkeypatch, *order, matched_size=True, repeats=4)
    assert state.n_train == state.n_val == 60
    shares = np.bincount(y) * 60 / 160
    rows_drawn = set()
    for drawn in subsets:
        large, target = (drawn.val, drawn.val_target) if swap else (drawn.train, drawn.train_target)
        whole = drawn.train if swap else drawn.val
        assert np.array_equal(whole, small["audio"])  # all of the smaller split
        rows = [int(np.flatnonzero((big["audio"] == row).all(axis=1))[0]) for row in large]
        assert len(set(rows)) == 60
        assert np.array_equal(y[rows], target)
        assert (np.abs(np.bincount(target, minlength=4) - shares) < 1).all()
        rows_drawn.add(tuple(rows))
    assert len(rows_drawn) == 4  # a new subset for each repeat


def test_cap_on_samples(splits, monkeypatch):
    subsets, state = recorded_subsets(monkeypatch, *splits, max_samples=80)
    assert (state.n_train, state.n_val) == (80, 60)
    assert (np.abs(np.bincount(subsets[0].train_target) - np.bincount(splits[1]) / 2) < 1).all()


def test_min_gap(splits):
    gap = diagnose(*splits)["audio"].gap
    below, above = diagnose(*splits, min_gap=gap + 0.01)["audio"], diagnose(*splits, min_gap=gap)["audio"]
    assert below.negligible
    assert below.gap == gap
    assert below.strength() == below.strength(kind="fixed", lam=1.0) == 0.0
    assert not above.negligible
    assert above.strength() > 0


def test_min_gap_by_the_bootstrap(splits):
    d = diagnose(*splits, min_gap="bootstrap")
    assert d["audio"].interval[0] > 0
    assert not d["audio"].negligible
    low, high = d["video"].interval
    assert low <= 0 <= high
    assert d["video"].negligible
    assert d["video"].strength() == 0.0


def test_the_interval_contains_the_true_gap():
    """Clusters are exact here and labels are noisy, so that purity is the share of clean labels."""
    covered = {0.0: 0, 0.3: 0}
    for seed in range(40):
        for true_gap in covered:
            rng = np.random.default_rng([seed, int(true_gap * 10)])
            y = np.arange(200) % 2
            x = (y * 10 + rng.normal(size=200))[:, None]
            noisy = [np.where(rng.random(200) < p, 1 - y, y) for p in (0.1, 0.1 + true_gap)]
            state = diagnose({"m": x}, noisy[0], {"m": x}, noisy[1], n_init=1, bootstrap=200)["m"]
            low, high = state.interval
            assert low < state.train_score - state.val_score < high
            covered[true_gap] += low <= true_gap <= high
    assert all(count >= 35 for count in covered.values())


ROWS = np.arange(24.0).reshape(12, 2)
LABELS = np.arange(12) % 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {}}, "no modality"),
        ({"val": {"b": ROWS}}, r"train has the modalities \['a'\], val has \['b'\]"),
        ({"train": {"a": ROWS[:, 0]}}, r"train\['a'\] has the shape \[12\]"),
        ({"val": {"a": ROWS[:, :1]}}, "2 features in train and 1 in val"),
        ({"val": {"a": ROWS[:11]}}, r"val\['a'\] has 11 rows, but there are 12 val labels"),
        ({"train": {"a": np.where(ROWS == 8, np.nan, ROWS)}}, r"train\['a'\] holds NaN .* first in row 4"),
        ({"val_labels": np.where(LABELS == 2, 1, LABELS)}, "no sample in the validation split: 2"),
        ({"train_labels": np.where(LABELS == 2, 1, LABELS)}, "no sample in the training split: 2"),
        ({"train_labels": LABELS.astype(float)}, "expected integers or strings"),
        ({"train_labels": LABELS[:, None]}, r"train labels have the shape \[12, 1\]"),
        ({"train_labels": []}, "train labels are empty"),
        (
            {"val_labels": np.where(LABELS == 2, -100, LABELS)},
            "4 of 24 labels are -100, .* ignores; .* leave",
        ),
        ({"n_clusters": 13}, "12 samples are fewer than the 13 clusters"),
    ],
)
def test_invalid_data_are_named(changes, message):
    good = {"train": {"a": ROWS}, "train_labels": LABELS, "val": {"a": ROWS + 1}, "val_labels": LABELS}
    with pytest.raises(DataError, match=message):
        diagnose(**{**good, **changes})


def test_the_ignored_class_is_refused_wherever_labels_become_classes():
    y = np.where(np.arange(12) == 5, -100, LABELS)
    for labels in (y, y.astype(np.int8), torch.as_tensor(y)):
        with pytest.raises(DataError, match="1 of 12 labels are -100"):
            purity(ROWS, labels)
    assert purity(ROWS, LABELS - 99) == purity(ROWS, LABELS)  # other negative numbers are classes
    assert purity(ROWS, np.char.mod("%d", y)) > 0  # and so are texts


def test_a_missing_class_is_named_and_can_be_allowed(splits):
    train, y, val, y_val = splits
    words = np.array(["bark", "meow", "moo", "neigh"])
    kept = y_val != 3
    val, y_val = {m: z[kept] for m, z in val.items()}, words[y_val[kept]]
    with pytest.raises(DataError, match=r"1 of 4 classes .* validation split: neigh"):
        diagnose(train, words[y], val, y_val)
    assert diagnose(train, words[y], val, y_val, missing_classes="allow")["audio"].n_val == kept.sum()


@pytest.mark.parametrize("metric", ["silhouette", "nearest-class-mean", "linear-probe"])
def test_metrics_that_need_two_classes_are_refused(metric):
    one = np.zeros(12, int)
    with pytest.raises(DataError, match="12 training samples are of 1 classes"):
        diagnose({"a": ROWS}, one, {"a": ROWS}, one, metric=metric)
    with pytest.raises(DataError, match="12 validation samples are of 1 classes"):
        diagnose({"a": ROWS}, LABELS, {"a": ROWS}, one, metric=metric, missing_classes="allow")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "rob"}, "diagnosis preset 'rob': did you mean robust"),
        ({"metrik": "nmi"}, "option of diagnose 'metrik': did you mean metric"),
        ({"metric": "puritty"}, "value of metric 'puritty': did you mean"),
        ({"scaler": "min-max"}, "value of scaler 'min-max'"),
        ({"assign": "transfr"}, "did you mean transfer"),
        ({"sign": "both"}, "value of sign 'both': known: abs, positive"),
        ({"backend": "torhc"}, "did you mean torch"),
        ({"min_gap": "bootstrp"}, "did you mean bootstrap"),
        ({"missing_classes": "ignore"}, "value of missing_classes"),
    ],
)
def test_unknown_names_come_with_suggestions(splits, options, message):
    with pytest.raises(UnknownNameError, match=message):
        diagnose(*splits, **options)


@pytest.mark.parametrize(
    "option", ["repeats", "n_init", "max_iter", "bins", "n_clusters", "max_samples", "pca"]
)
@pytest.mark.parametrize("value", [0, -1, 2.5, "3", True])
def test_counts_are_integers_of_at_least_one(option, value):
    with pytest.raises(UsageError, match=f"{option} is"):
        DiagnosisOptions(**{option: value})


def test_other_invalid_values():
    for changes in ({"bootstrap": -1}, {"kmeans_seed": -1}, {"min_gap": -0.1}, {"min_gap": math.nan}):
        with pytest.raises(UsageError, match="expected"):
            DiagnosisOptions(**changes)
    assert DiagnosisOptions(min_gap="bootstrap").bootstrap == 200
    assert DiagnosisOptions(min_gap="bootstrap", bootstrap=30).bootstrap == 30


def test_presets():
    assert DiagnosisOptions.preset() == DiagnosisOptions.preset("paper") == DiagnosisOptions()
    official = DiagnosisOptions()
    assert (official.metric, official.scaler, official.assign) == ("purity", "minmax-per-split", "refit")
    assert (official.n_init, official.kmeans_seed, official.max_iter, official.sign) == (10, 0, 300, "abs")
    assert (official.matched_size, official.repeats, official.chance_correct) == (False, 1, False)
    assert (official.min_gap, official.pca, official.max_samples) == (0.0, None, None)
    robust = DiagnosisOptions.preset("robust", repeats=7)
    assert (robust.matched_size, robust.repeats, robust.bootstrap) == (True, 7, 200)


def test_a_diagnosis_is_a_mapping(splits):
    d = diagnose(*splits)
    assert "audio" in d
    assert "smell" not in d
    assert len(d) == 2
    with pytest.raises(UnknownNameError, match="did you mean audio"):
        d["audi"]


def test_frame_and_record_show_the_applied_options():
    state = LearningState("a", 0.9, 0.6, 0.3, (0.2, 0.4), False, "purity", 10, 5)
    d = Diagnosis({"a": state, "b": LearningState("b", 0.5, 0.5, 0.0, None, True, "purity", 10, 5, 0.25)})
    frame = d.to_frame(lam=1.0)
    assert frame.loc["a", "strength"] == pytest.approx(math.tanh(0.3))
    assert frame.loc["a", ["difference_low", "difference_high"]].tolist() == [0.2, 0.4]
    assert frame.loc["b", "strength"] == 0.25
    record = d.to_dict()
    assert record["a"]["interval"] == [0.2, 0.4]
    assert record["a"]["strength"] == pytest.approx(math.tanh(0.9))
    assert record["b"]["applied"] == 0.25
