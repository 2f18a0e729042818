"""Looks: how many there are, on which samples, and that they change and cost little."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support import synthetic

import equipoise as eq
from equipoise.data import RunData
from equipoise.models.encoders.cnn import CNN
from equipoise.models.encoders.gru import GRU
from equipoise.models.encoders.mlp import MLP
from equipoise.tasks import CLASSIFICATION
from equipoise.training.measuring import looks as module
from equipoise.training.measuring.looks import Looks


@pytest.fixture
def data(tmp_path: Path) -> RunData:
    dataset = eq.write_dataset(tmp_path / "set", *synthetic.samples(synthetic.VECTORS, 300))
    return RunData(dataset, eq.data.splits_of(dataset), 16)


def looks_of(data: RunData, epochs: int, every: int | None = None) -> Looks:
    return Looks(every, epochs, data.train_samples, data.val_samples, CLASSIFICATION)


def epochs_looked_at(looks: Looks, epochs: int) -> list[int]:
    return [epoch for epoch in range(epochs) if looks.due(epoch) or epoch == epochs - 1]


@pytest.mark.parametrize(("given", "expected"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (0, [4])])
def test_a_given_number_is_kept_and_reads_all_samples(data: RunData, given: int, expected: list[int]) -> None:
    looks = looks_of(data, 5, given)
    looks.plan({"m": torch.zeros(9, 4)}, 3, 16)
    assert epochs_looked_at(looks, 5) == expected
    assert looks.whole(last=False)


@pytest.mark.parametrize(("share", "number"), [(0.0, 3), (1e9, 10)])
@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 11, 40, 60, 61, 100])
def test_there_are_three_to_ten(
    data: RunData, share: float, number: int, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARE", share)
    looks = looks_of(data, epochs)
    assert looks.due(0)
    looks.plan({"m": torch.zeros(9, 4)}, 3, 16)
    found = epochs_looked_at(looks, epochs)
    assert found[0] == 0
    assert found[-1] == epochs - 1
    assert min(2 if number == 3 else 6, epochs) <= len(found) <= number
    assert not looks.whole(last=False)


def test_they_grow_rarer_with_their_cost_and_more_frequent_with_that_of_training(data: RunData) -> None:
    def every(features: int, classes: int, epochs: int) -> float:
        looks = looks_of(data, epochs)
        looks.plan({"m": torch.zeros(9, features)}, classes, 16)
        assert looks.every is not None
        return looks.every / epochs

    assert every(4, 2, 2000) < every(50_000, 100, 2000)
    assert every(4, 2, 20_000) < every(4, 2, 20)


def test_operations_are_two_for_each_weight_and_place(data: RunData) -> None:
    cases = [
        (MLP(5, hidden=[7, 3]), (4, 5), 2 * 4 * (5 * 7 + 7 * 3)),
        (CNN(2, channels=[3]), (4, 2, 6, 8), 2 * 4 * 48 * (2 * 3 * 9)),
        (GRU(5, width=4, layers=1), (4, 6, 5), 2 * 4 * 6 * 2 * (3 * 4 * 5 + 3 * 4 * 4)),
    ]
    for encoder, shape, expected in cases:
        looks = looks_of(data, 5)
        with looks.counted(encoder):
            encoder(torch.zeros(shape))
        assert looks._operations == expected
        encoder(torch.zeros(shape))  # the hooks are gone
        assert looks._operations == expected


def test_many_samples_are_reduced_in_proportion_to_the_classes(
    data: RunData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLES", 40)
    read = [torch.cat([batch.index for batch in part]) for part in looks_of(data, 5).samples(16)]
    for rows, split in zip(read, (data.train_samples, data.val_samples), strict=True):
        assert len(rows) == 40
        assert set(rows.tolist()) <= set(split.indices.tolist())
        assert rows.tolist() == sorted(rows.tolist())
        all_of = np.bincount(split.target) / len(split)
        chosen = split.target[torch.isin(split.indices, rows)]
        np.testing.assert_allclose(np.bincount(chosen) / 40, all_of, atol=1 / 40)


def test_no_class_is_left_out_of_a_reduced_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLES", 20)
    rng = np.random.default_rng(0)
    split = np.where(np.arange(400) % 2 == 0, "train", np.where(np.arange(400) % 4 == 1, "val", "test"))
    target = rng.integers(0, 2, 400)
    target[0:80:2] = target[1] = target[3] = 2  # many in training, one in validation and test
    eq.write_dataset(tmp_path / "set", {"a": rng.normal(size=(400, 3))}, target, split=split)
    result = eq.fit(tmp_path / "set", "unimodal:a", epochs=2)  # a class in one split only is an error
    assert len(result.diagnoses) == 2


def diagnosed(folder: Path) -> list[dict]:
    lines = (folder / "diagnosis.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if '"event": "diagnosis"' in line]


def test_the_last_look_is_whole_and_the_others_say_what_they_are(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "SAMPLES", 50)
    eq.write_dataset(tmp_path / "set", *synthetic.samples(synthetic.VECTORS, 300))
    result = eq.fit(tmp_path / "set", epochs=6, out=tmp_path / "run")
    *between, last = diagnosed(tmp_path / "run")
    assert [look["epoch"] for look in (*between, last)] == [0, 3, 5]
    for look in between:
        assert look["options"] == {"n_init": module.STARTS}
        assert {state["n_train"] for state in look["modalities"].values()} == {50}
    assert "options" not in last
    assert {state["n_train"] for state in last["modalities"].values()} == {180}
    assert 0 < result.summary["look_seconds"] < 60
    without = eq.fit(tmp_path / "set", epochs=6, diagnose_every=0)
    assert without.summary["look_seconds"] == 0
    assert without.test == result.test
    assert without.summary["order_fingerprint"] == result.summary["order_fingerprint"]
