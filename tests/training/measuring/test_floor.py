"""The floor under a run against scikit-learn, features by hand, and McNemar's standard error."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import average_precision_score, r2_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

import equipoise as eq
import other_tasks
import synthetic
from equipoise.data import PreparedDataset, RunData, splits_of
from equipoise.data.format.modality import Layout, ModalitySpec
from equipoise.training.assembly import prepare_data
from equipoise.training.measuring import floor as floor_module
from equipoise.training.measuring import input_views
from equipoise.training.measuring.floor import floor_of, lead_over, measure_floor
from equipoise.training.measuring.input_views import InputViews
from equipoise.training.settings import Settings
from equipoise.types import Batch


def opened(dataset: PreparedDataset) -> tuple[RunData, Any, Any]:
    splits = splits_of(dataset)
    return RunData(dataset, splits, 32), splits.train, splits.val


def scaled(dataset: PreparedDataset, name: str, train: Any, val: Any) -> tuple[Any, Any]:
    x = np.asarray(dataset.array(name), dtype=np.float64)
    scaler = StandardScaler().fit(x[train])
    return scaler.transform(x[train]), scaler.transform(x[val])


def test_the_floor_is_the_score_of_scikit_learn(tmp_path: Path) -> None:
    dataset = synthetic.write(tmp_path / "two", count=240)
    data, train, val = opened(dataset)
    found = measure_floor(data)
    pairs = {m: scaled(dataset, m, train, val) for m in ("audio", "video")}
    pairs["joint"] = tuple(np.hstack([pairs[m][i] for m in ("audio", "video")]) for i in (0, 1))
    for name, (x, x_val) in pairs.items():
        own = found.joint if name == "joint" else found.modalities[name]
        model = LogisticRegression(tol=1e-3, max_iter=200).fit(x, dataset.target[train])
        assert own.score == model.score(x_val, dataset.target[val]), name
        assert np.array_equal(own.outputs, model.predict(x_val))
    assert found.joint.inputs == {"audio": "values", "video": "values"}


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_the_floor_of_other_tasks_is_that_of_ridge_regression(tmp_path: Path, task: str) -> None:
    dataset = other_tasks.write(tmp_path / task, task)
    data, train, val = opened(dataset)
    x, x_val = scaled(dataset, "audio", train, val)
    y, y_val = dataset.target[train], dataset.target[val]
    ridge = RidgeCV([10.0**k for k in range(-2, 6)])
    if task == "regression":
        expected = r2_score(y_val, ridge.fit(x, y).predict(x_val))
    else:
        # The penalty is chosen for all labels together, each label has its own weights.
        one = OneVsRestClassifier(RidgeCV([ridge.fit(x, y).alpha_])).fit(x, y)
        scores = np.stack([model.predict(x_val) for model in one.estimators_], axis=1)
        expected = average_precision_score(y_val, scores, average="macro")
    found = measure_floor(data).modalities["audio"]
    assert found.score == pytest.approx(expected, abs=1e-4)
    assert found.score > 0.5


def test_the_floor_of_tokens_is_that_of_a_bag_of_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts, target = rng.integers(1, 30, size=(200, 12)), np.arange(200) % 2
    texts[:, 6:] *= rng.integers(0, 2, size=(200, 6))  # 0 is no token
    texts[target == 1, 3] = 31
    inputs = {"text": texts, "other": rng.normal(size=(200, 3))}
    dataset = eq.write_dataset(tmp_path / "texts", inputs, target, kinds={"text": "tokens"})
    data, train, val = opened(dataset)
    words = [" ".join(f"w{token}" for token in row if token) for row in texts]
    counts = CountVectorizer(binary=True).fit([words[row] for row in train])
    bags = counts.transform(words).toarray().astype(float)
    expected = LogisticRegression(max_iter=1000).fit(bags[train], target[train]).score(bags[val], target[val])
    found = measure_floor(data)
    assert found.modalities["text"].score == pytest.approx(expected, abs=0.02)
    assert found.modalities["text"].score > 0.9 > found.modalities["other"].score
    assert found.modalities["text"].inputs == {"text": "bag of words"}


def test_the_floor_of_htad_is_near_that_of_other_splits() -> None:
    found = measure_floor(prepare_data(Settings.from_options("htad"))[1])
    known = {"audio": 0.636, "accelerometer": 0.765}  # a logistic regression, on other splits
    assert {m: model.score for m, model in found.modalities.items()} == pytest.approx(known, abs=0.04)
    assert found.joint.score == pytest.approx(0.862, abs=0.04)


def spec(kind: str, *shape: int) -> ModalitySpec:
    return ModalitySpec.of(0, "m", Layout(shape, "float32", kind))


def views_of(kind: str, x: torch.Tensor) -> dict[str, np.ndarray]:
    views = InputViews({"m": spec(kind, *x.shape[1:])})
    target = torch.zeros(len(x), dtype=torch.int64)
    return views.of(Batch({"m": x[part]}, target[part], target[part]) for part in (slice(2), slice(2, None)))[
        "m"
    ]


@pytest.mark.parametrize(
    ("kind", "shape", "axes"),
    [("sequence", (5, 3), (1,)), ("image", (3, 4, 6), (2, 3)), ("video", (4, 3, 6, 2), (1, 3, 4))],
)
def test_views_by_hand(kind: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    found = views_of(kind, torch.from_numpy(x))
    assert np.array_equal(found["values"], x.reshape(5, -1))
    statistics = np.concatenate([f(x, axis=axes) for f in (np.mean, np.std, np.min, np.max)], axis=1)
    assert found["mean, std, min, max"] == pytest.approx(statistics, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "shape", "blocks", "parts", "means"),
    [
        ("sequence", (12, 1), (4,), (4, 3), (2,)),
        ("image", (1, 8, 8), (4, 4), (4, 2, 4, 2), (2, 4)),
        ("video", (4, 1, 8, 8), (4, 2, 2), (4, 2, 4, 2, 4), (3, 5)),
    ],
)
def test_blocks_of_wide_inputs(
    monkeypatch: pytest.MonkeyPatch, kind: str, shape: Any, blocks: Any, parts: Any, means: Any
) -> None:
    monkeypatch.setattr(input_views, "WIDTH", 4 if kind == "sequence" else 16)
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    found = views_of(kind, torch.from_numpy(x))
    assert list(found) == ["mean, std, min, max", f"means of {' x '.join(map(str, blocks))} blocks"]
    by_hand = x.reshape(5, *parts).mean(axis=means).reshape(5, -1)
    assert list(found.values())[1] == pytest.approx(by_hand, abs=1e-5)


def test_wide_vectors_are_projected_always_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_views, "WIDTH", 4)
    x = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    first, second = views_of("vector", x)["values"], views_of("vector", x)["values"]
    assert first.shape == (6, 4)
    assert np.array_equal(first, second)


def test_the_standard_error_is_that_of_mcnemar() -> None:
    rng = np.random.default_rng(1)
    target = np.arange(400) % 4
    floor = np.where(rng.random(400) < 0.7, target, (target + 1) % 4)
    run = np.where(rng.random(400) < 0.66, target, (target + 1) % 4)
    only_floor = int(((floor == target) & (run != target)).sum())
    only_run = int(((floor != target) & (run == target)).sum())
    lead = lead_over(floor, run, target)
    assert lead.difference == pytest.approx((only_floor - only_run) / 400)
    error = np.sqrt(only_floor + only_run - (only_floor - only_run) ** 2 / 400) / 400
    assert lead.standard_error == pytest.approx(error, rel=0.25)
    assert not lead_over(floor, floor, target).below
    assert lead_over(target, run, target).below
    one_error = np.where(np.arange(400) < 2, (target + 1) % 4, target)
    assert not lead_over(target, one_error, target).below  # two samples of 400: within noise


def test_it_is_measured_once_and_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, *_ = opened(synthetic.write(tmp_path / "two"))
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first = floor_of(data, tmp_path / "floors")
    assert states == (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_rng_state().tolist(),
    )
    with monkeypatch.context() as patch:
        patch.setattr(floor_module, "measure_floor", None)
        again = floor_of(data, tmp_path / "floors")
    assert again.described() == first.described()
    assert np.array_equal(again.joint.outputs, first.joint.outputs)
    assert again.record(["audio"], first.modalities["audio"].outputs)["floor"]["own"]["difference"] == 0
    assert measure_floor(data).described() == again.described()
    assert again.seconds == first.seconds
