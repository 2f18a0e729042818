"""Targets with several labels or with numbers: writing, reading, splitting, standardising, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import other_tasks
from equipoise.data import RunData, Splits, open_dataset, splits_of, write_dataset
from equipoise.types import DataError

KINDS = ("multilabel", "regression")


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize(
    "convert", [np.asarray, np.ndarray.tolist, torch.tensor], ids=["array", "list", "tensor"]
)
def test_written_targets_are_read_back(task: str, convert: Any, tmp_path: Path) -> None:
    inputs, target = other_tasks.samples(task, count=40)
    write_dataset(tmp_path / "data", inputs, convert(target), task=task)
    read = open_dataset(tmp_path / "data")
    assert read.task == task
    assert np.array_equal(read.target, target)
    assert read.classes == (("0", "1", "2") if task == "multilabel" else ())


@pytest.mark.parametrize("task", KINDS)
def test_the_fingerprint_depends_on_the_target(task: str, tmp_path: Path) -> None:
    inputs, target = other_tasks.samples(task, count=40)
    changed = target.copy()
    changed[7] = 1 - changed[7] if task == "multilabel" else np.nextafter(changed[7], np.inf)
    first, again, other = (
        write_dataset(tmp_path / str(i), inputs, y, task=task).fingerprint
        for i, y in enumerate((target, target, changed))
    )
    assert first == again != other


def test_labels_may_have_names(tmp_path: Path) -> None:
    data = other_tasks.write(tmp_path / "data", "multilabel", count=40)
    assert open_dataset(data.path).classes == other_tasks.LABELS
    assert "3 labels" in str(data)


def test_every_split_has_its_share_of_every_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    often, seldom, both = rng.random(300) < 0.5, rng.random(300) < 0.08, rng.random(300) < 0.3
    target = np.stack([often, seldom, both], axis=1).astype(int)
    data = write_dataset(
        tmp_path / "data", {"a": rng.normal(size=(300, 2)).astype("f4")}, target, task="multilabel"
    )
    splits = splits_of(data, seed=3)
    rows = [part for _, part in splits.items()]
    assert sorted(np.concatenate(rows).tolist()) == list(range(300))
    shares = [len(part) / 300 for part in rows]
    assert shares == pytest.approx((0.6, 0.2, 0.2), abs=0.02)
    for label in range(3):
        for part, share in zip(rows, shares, strict=True):
            carried = target[part, label].sum()
            assert carried >= 1
            # A random draw exceeds this deviation about once in twenty times.
            assert abs(carried - share * target[:, label].sum()) < 2 * np.sqrt(target[:, label].sum() * 0.25)
    assert splits_of(data, seed=3).fingerprint == splits.fingerprint != splits_of(data, seed=4).fingerprint


@pytest.mark.parametrize("task", KINDS)
def test_groups_stay_whole(task: str, tmp_path: Path) -> None:
    inputs, target = other_tasks.samples(task, count=120)
    group = np.arange(120) // 4
    splits = splits_of(write_dataset(tmp_path / "data", inputs, target, group=group, task=task))
    parts = [set(group[rows].tolist()) for _, rows in splits.items()]
    assert sum(map(len, parts)) == 30
    assert all(parts)


def test_a_split_without_a_label_is_refused(tmp_path: Path) -> None:
    inputs, target = other_tasks.samples("multilabel", count=60)
    split = np.array(["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    target[split == "val", 1] = 0
    data = write_dataset(
        tmp_path / "data", inputs, target, split=split, task="multilabel", classes=other_tasks.LABELS
    )
    with pytest.raises(DataError, match="label 'fast' in split 'val'"):
        splits_of(data)


def test_given_splits_need_every_label_only_once(tmp_path: Path) -> None:
    inputs, _ = other_tasks.samples("multilabel", count=60)
    target = np.tile([[1, 0], [1, 1]], (30, 1))
    split = np.array(["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    target[40:50] = 1  # in the other splits only the second label is the rarest of some sample
    data = write_dataset(tmp_path / "data", inputs, target, split=split, task="multilabel")
    assert splits_of(data).val.tolist() == list(range(40, 50))


@pytest.mark.parametrize("grouped", [False, True])
def test_a_few_samples_without_a_label_are_accepted(grouped: bool, tmp_path: Path) -> None:
    inputs, _ = other_tasks.samples("multilabel", count=120)
    target = np.tile([[1, 0], [0, 1], [1, 1]], (40, 1))
    target[5:7] = 0
    group = np.arange(120) // 2 if grouped else None
    splits = splits_of(write_dataset(tmp_path / "data", inputs, target, group=group, task="multilabel"))
    assert all(target[rows].any(axis=0).all() for _, rows in splits.items())


def run_data(path: Path) -> tuple[RunData, Splits]:
    dataset = open_dataset(path)
    splits = splits_of(dataset)
    return RunData(dataset, splits, 16), splits


def test_numbers_are_standardised_with_the_training_split_only(tmp_path: Path) -> None:
    inputs, target = other_tasks.samples("regression", count=100)
    first = write_dataset(tmp_path / "first", inputs, target, task="regression")
    data, splits = run_data(first.path)
    known = target[splits.train]
    assert data.target_scale == pytest.approx((known.mean(), known.std()))
    served = {int(i): float(y) for b in data.train_eval for i, y in zip(b.index, b.target, strict=True)}
    for row in splits.train:
        assert served[row] == pytest.approx((target[row] - known.mean()) / known.std(), abs=1e-5)
    moved = target.copy()
    moved[splits.val], moved[splits.test] = moved[splits.val] + 1e4, moved[splits.test] * -50
    other, again = run_data(write_dataset(tmp_path / "other", inputs, moved, task="regression").path)
    assert np.array_equal(again.train, splits.train)
    assert other.target_scale == data.target_scale


@pytest.mark.parametrize("task", KINDS)
def test_batches_contain_the_target_as_floats(task: str, tmp_path: Path) -> None:
    data, _ = run_data(other_tasks.write(tmp_path / "data", task).path)
    batch = next(iter(data.train))
    assert batch.target.dtype == torch.float32
    assert tuple(batch.target.shape) == ((16, 3) if task == "multilabel" else (16,))
    assert data.class_count == (3 if task == "multilabel" else 1)


@pytest.mark.parametrize(
    ("task", "target", "said"),
    [
        ("multilabel", [[0, 1], [1, 2]] * 10, "other values than 0 and 1"),
        ("multilabel", [0, 1] * 10, r"shape \[20\]"),
        ("multilabel", [[0, 1], [1]] * 10, "ragged"),
        ("multilabel", [[0, 1]] * 20, "no sample has the label '0'"),
        ("multilabel", [[np.nan, 1.0]] * 20, "other values than 0 and 1"),
        ("regression", [[0.5]] * 20, r"shape \[20, 1\]"),
        ("regression", [np.nan] + [0.5] * 19, "not finite"),
        ("regression", ["much"] * 20, "no numbers"),
        ("classification", [[0, 1], [1, 0]] * 10, "task='multilabel'"),
        ("ranking", [0, 1] * 10, "'ranking'"),
    ],
)
def test_an_invalid_target_is_refused(task: str, target: Any, said: str, tmp_path: Path) -> None:
    inputs = {"a": np.zeros((20, 3), "f4")}
    with pytest.raises(DataError, match=said) as caught:
        write_dataset(tmp_path / "data", inputs, target, task=task)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_a_constant_number_is_refused(tmp_path: Path) -> None:
    inputs, _ = other_tasks.samples("regression", count=40)
    data = write_dataset(tmp_path / "data", inputs, np.full(40, 2.5), task="regression")
    with pytest.raises(DataError, match="2.5 for all training samples"):
        RunData(data, splits_of(data), 8)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
@pytest.mark.parametrize("kind", [np.float32, np.bool_, np.int64])
def test_one_column_of_zeros_and_ones_is_two_classes(task: str, kind: Any, tmp_path: Path) -> None:
    target = np.arange(60) % 2
    inputs = {"a": np.random.default_rng(0).normal(size=(60, 3)).astype("f4") + target[:, None]}
    for number, given in enumerate(
        (target[:, None].astype(kind), torch.tensor(target[:, None].astype(kind)))
    ):
        folder = tmp_path / str(number)
        data = write_dataset(folder, inputs, given, task=task)
        assert data.task == "classification"
        assert np.array_equal(data.target, target)
        assert len(data.classes) == 2
