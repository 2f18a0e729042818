"""Splits: disjoint, complete, stratified, groups kept together, and a function of the seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.data import PreparedDataset, Splits, draw_splits, splits_of
from equipoise.types import DataError

RNG = np.random.default_rng(0)
Write = Callable[..., PreparedDataset]


def assert_partition(splits: Splits, count: int) -> None:
    rows = np.concatenate([part for _, part in splits.items()])
    assert sorted(rows.tolist()) == list(range(count))
    for _, part in splits.items():
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
        assert not part.flags.writeable


def apart(splits: Splits, keys: np.ndarray[Any, Any]) -> bool:
    sets = [set(keys[part].tolist()) for _, part in splits.items()]
    return not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])


@settings(max_examples=80, deadline=None)
@given(
    counts=st.lists(st.integers(3, 60), min_size=2, max_size=6),
    seed=st.integers(0, 2**40),
    fractions=st.sampled_from([(0.6, 0.2, 0.2), (0.8, 0.1, 0.1), (0.34, 0.33, 0.33), (0.1, 0.2, 0.7)]),
)
def test_stratified(counts: list[int], seed: int, fractions: tuple[float, float, float]) -> None:
    target = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    splits = draw_splits(target, fractions=fractions, seed=seed)
    assert_partition(splits, len(target))
    for c, count in enumerate(counts):
        for fraction, (_, part) in zip(fractions, splits.items(), strict=True):
            found = int((target[part] == c).sum())
            assert found >= 1
            assert abs(found - fraction * count) < 2.5
    again = draw_splits(target, fractions=fractions, seed=seed)
    assert again.fingerprint == splits.fingerprint
    assert [part.tolist() for _, part in again.items()] == [part.tolist() for _, part in splits.items()]


def test_texts_are_drawn_like_their_numbers() -> None:
    target = np.arange(60) % 3
    texts = np.array(["a", "b", "c"])[target].tolist()
    assert draw_splits(texts, seed=3).fingerprint == draw_splits(target, seed=3).fingerprint
    with pytest.raises(DataError, match="class 'd'"):
        draw_splits([*texts, "d"])


def test_sizes_are_exact_over_all_classes() -> None:
    target = np.repeat(np.arange(26), 12)  # 2.4 samples of each class are requested
    splits = draw_splits(target)
    assert [len(part) for _, part in splits.items()] == [188, 62, 62]


@settings(max_examples=40, deadline=None)
@given(groups=st.integers(6, 40), classes=st.integers(2, 5), seed=st.integers(0, 2**40))
def test_groups_are_in_one_split_each(groups: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(groups), classes * 6))
    target = rng.integers(0, classes, len(group))
    splits = draw_splits(target, group, seed=seed)
    assert_partition(splits, len(target))
    assert apart(splits, group)
    for _, part in splits.items():
        assert set(target[part]) == set(range(classes))
    assert draw_splits(target, group, seed=seed).fingerprint == splits.fingerprint


def test_grouped_parts_have_about_their_fractions() -> None:
    group = np.repeat(np.arange(50), 20)
    target = np.tile([0, 1], 500)
    for seed in range(5):
        splits = draw_splits(target, group, fractions=(0.7, 0.15, 0.15), seed=seed)
        np.testing.assert_allclose(
            [len(part) / 1000 for _, part in splits.items()], [0.7, 0.15, 0.15], atol=0.045
        )
        assert all(abs((target[part] == 0).mean() - 0.5) < 0.02 for _, part in splits.items())


def test_the_largest_group_may_be_in_any_split() -> None:
    group = np.concatenate([np.full(60, 0), np.repeat(np.arange(1, 20), 20)])
    target = np.arange(len(group)) % 2
    places = {
        next(name for name, part in draw_splits(target, group, seed=s).items() if 0 in group[part])
        for s in range(60)
    }
    assert places == {"train", "val", "test"}


def test_seeds_give_different_draws_and_do_not_change_global_generators() -> None:
    target = np.arange(90) % 3
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    group = np.arange(90) // 3
    assert len({draw_splits(target, seed=s).fingerprint for s in range(10)}) == 10
    assert len({draw_splits(target, group, seed=s).fingerprint for s in range(10)}) == 10
    assert np.random.get_state()[1].tolist() == before


def test_identical_content_stays_together() -> None:
    rng = np.random.default_rng(0)
    content = np.array([f"h{i}" for i in rng.integers(0, 80, 200)])
    target = np.array([int(c[1:]) % 3 for c in content])
    for seed in range(10):
        splits = draw_splits(target, duplicates=content, seed=seed)
        assert_partition(splits, 200)
        assert apart(splits, content)
    # Groups g0 and g1 share a content, and so do g1 and g2: all three have to stay together.
    group = np.array([f"g{i // 10}" for i in range(200)])
    content = np.array([f"h{i}" for i in range(200)])
    content[[5, 15]] = "same"
    content[[16, 25]] = "also"
    for seed in range(10):
        splits = draw_splits(np.arange(200) % 2, group, duplicates=content, seed=seed)
        assert apart(splits, group)
        assert apart(splits, content)


def test_fingerprint_depends_on_ids_and_membership_only() -> None:
    target = np.arange(30) % 2
    ids = np.array([f"s{i:02d}" for i in range(30)])
    base = draw_splits(target, ids=ids, seed=1)
    assert draw_splits(target, seed=1).fingerprint != base.fingerprint
    parts = dict(base.items())
    assert Splits.of(**parts, ids=ids, origin="anything").fingerprint == base.fingerprint
    order = np.random.default_rng(0).permutation(30)
    place = np.argsort(order)
    moved = {name: place[part] for name, part in parts.items()}
    assert Splits.of(**moved, ids=ids[order], origin="rows moved").fingerprint == base.fingerprint
    swapped = Splits.of(parts["train"], parts["test"], parts["val"], ids=ids, origin="x")
    assert swapped.fingerprint != base.fingerprint


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"fractions": (0.5, 0.5, 0.5)}, ["(0.5, 0.5, 0.5)", "sum to 1"]),
        ({"fractions": (0.8, 0.2)}, ["three numbers"]),
        ({"fractions": (1.0, 0.0, 0.0)}, ["between 0 and 1"]),
        ({"fractions": (1.2, -0.1, -0.1)}, ["between 0 and 1"]),
        ({"fractions": (float("nan"), 0.5, 0.5)}, ["between 0 and 1"]),
        ({"target": [0] * 10 + [1] * 2}, ["class '1' has 2 samples", "at least 3", "add samples"]),
        ({"target": [0] * 10 + [1] * 2, "classes": ["cat", "dog"]}, ["class 'dog' has 2 samples"]),
        ({"target": [0, 1] * 6, "group": [0, 0, 0, 1, 1, 1] * 2}, ["class '0' has 2 groups", "at least 3"]),
        ({"target": [0, 1] * 6, "duplicates": ["x"] * 12}, ["class '0' has 1 samples", "identical"]),
        ({"target": [0, 1] * 6, "group": ["g"] * 3}, ["group has 3 values for 12"]),
        ({"target": [0.5, 1]}, ["integer"]),
        ({"target": []}, ["no samples"]),
        ({"target": [0, 1] * 6, "ids": ["a"] * 12}, ["ids occur more than once"]),
    ],
)
def test_impossible_draws_are_refused(call: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        draw_splits(**{"target": np.arange(12) % 2, **call})
    for word in words:
        assert word in str(caught.value)


def test_a_class_that_no_grouped_draw_puts_into_every_split() -> None:
    # Each class is in three groups, but all groups of class 1 are also linked by shared contents.
    group = np.repeat(np.arange(6), 4)
    target = np.where(group < 3, 0, 1)
    duplicates = np.arange(24).astype(str)
    duplicates[[12, 16, 20]] = "same"
    with pytest.raises(DataError, match="class '1' has 1 groups"):
        draw_splits(target, group, duplicates=duplicates)


def test_given_splits_are_used(write: Write) -> None:
    split = np.array(["train"] * 30 + ["val"] * 15 + ["test"] * 15)
    found = splits_of(write(split=split), seed=5)
    assert found.origin == "given by the dataset"
    assert [part.tolist() for _, part in found.items()] == [
        list(range(30)),
        list(range(30, 45)),
        list(range(45, 60)),
    ]
    assert splits_of(write(split=split, overwrite=True), seed=6).fingerprint == found.fingerprint


def test_validation_is_taken_from_train(write: Write) -> None:
    split = np.array(["train"] * 45 + ["test"] * 15)
    group = np.arange(60) // 3
    for seed in range(5):
        found = splits_of(write(split=split, overwrite=True), seed=seed)
        assert found.test.tolist() == list(range(45, 60))
        assert len(found.val) == 9
        assert_partition(found, 60)
        assert found.origin == f"given by the dataset; validation is 1/5 of its train split, seed {seed}"
        grouped = splits_of(write(split=split, group=group, overwrite=True), seed=seed)
        assert_partition(grouped, 60)
        assert apart(grouped, group)
        assert grouped.test.tolist() == list(range(45, 60))
    inputs = {"a": np.repeat(RNG.random((30, 2)), 2, axis=0)}
    doubled = splits_of(
        write(
            inputs=inputs, split=["train"] * 44 + ["test"] * 16, target=np.arange(60) // 2 % 3, overwrite=True
        )
    )
    assert apart(doubled, np.arange(60) // 2)


def test_all_splits_are_drawn_if_none_are_given(write: Write) -> None:
    inputs = {"a": np.repeat(RNG.random((30, 2)), 2, axis=0)}
    found = splits_of(write(inputs=inputs, target=np.arange(60) // 2 % 3), seed=3)
    assert found.origin == "drawn 60/20/20 %, seed 3"
    assert_partition(found, 60)
    assert apart(found, np.arange(60) // 2)
    group = np.arange(60) // 4
    grouped = splits_of(write(group=group, overwrite=True))
    assert grouped.origin == "drawn by group, 60/20/20 %, seed 0"
    assert apart(grouped, group)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (["train"] * 40 + ["val"] * 20, "no sample is in 'test'"),
        (["val"] * 40 + ["test"] * 20, "no sample is in 'train'"),
        (["train"] * 57 + ["val"] * 2 + ["test"], "class 'c2' has no sample in the split 'val'"),
        (["train"] * 54 + ["val"] * 4 + ["test"] * 2, "class 'c0' has no sample in the split 'test'"),
        (["train", "test", "test"] * 10 + ["val"] * 30, "class 'c1' has no sample in the split 'train'"),
        (["train"] * 5 + ["test"] * 55, "class 'c2' has 1 samples .* into train, val needs at least 2"),
    ],
)
def test_invalid_given_splits_are_refused(write: Write, split: list[str], message: str) -> None:
    dataset = write(split=split, classes=["c0", "c1", "c2"])
    with pytest.raises(DataError, match=message):
        splits_of(dataset)
