"""Normalisers against the definition, on train rows only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from equipoise.data import PreparedDataset, fit_normalizer, fit_normalizers, write_dataset
from equipoise.types import DataError

RNG = np.random.default_rng(0)
Write = Callable[..., PreparedDataset]
TRAIN = np.array([0, 1, 2, 5, 8, 13, 21, 34, 55])


def slow_definition(array: Any, kind: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of each feature (last axis) or channel, computed one by one."""
    values = array.astype(np.float64) / (255 if array.dtype == np.uint8 else 1)
    axis = {"vector": 1, "sequence": 2, "image": 1, "video": 2}[kind]
    columns = [np.take(values, c, axis=axis).ravel() for c in range(values.shape[axis])]
    means = [sum(column) / len(column) for column in columns]
    stds = [(sum((column - m) ** 2) / len(column)) ** 0.5 for column, m in zip(columns, means, strict=True)]
    return means, stds


@pytest.mark.parametrize("pieces", [False, True])
def test_the_definition_holds_for_every_kind(
    dataset: PreparedDataset, pieces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pieces:
        monkeypatch.setattr("equipoise.data.format.content.CHUNK_BYTES", 200)
    for name, normalizer in fit_normalizers(dataset, TRAIN).items():
        array = np.asarray(dataset.array(name))
        means, stds = slow_definition(array[TRAIN], dataset.modalities[name].kind)
        np.testing.assert_allclose(normalizer.mean.ravel(), means, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(normalizer.std.ravel(), stds, rtol=1e-12)
        trailing = (1, 1) if name in ("image", "video") else ()
        scaled = array / 255 if array.dtype == np.uint8 else array.astype(np.float64)
        expected = (scaled - np.reshape(means, (-1, *trailing))) / np.reshape(stds, (-1, *trailing))
        found = normalizer(array)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)
        np.testing.assert_array_equal(normalizer(array[7:9]), found[7:9])


def test_only_train_rows_count(write: Write) -> None:
    base = RNG.random((60, 3))
    other = base.copy()
    others = np.setdiff1d(np.arange(60), TRAIN)
    other[others] = 1e6
    found = [
        fit_normalizers(write(inputs={"a": array}, overwrite=True), TRAIN)["a"] for array in (base, other)
    ]
    np.testing.assert_array_equal(found[0].mean, found[1].mean)
    np.testing.assert_array_equal(found[0].std, found[1].std)


@pytest.mark.usefixtures("small_chunks")
def test_constant_features_stay_finite(write: Write) -> None:
    a = RNG.random((60, 4))
    a[:, 1], a[:, 2], a[:, 3] = 0.1, 0.0, 1e-300
    a[59, 1] = 0.2  # not in train
    normalizer = fit_normalizers(write(inputs={"a": a}), TRAIN)["a"]
    assert normalizer.std.tolist()[1:] == [1, 1, 1]
    assert (normalizer(a)[TRAIN, 1:] == 0).all()
    assert normalizer(a)[59, 1] == pytest.approx(0.1)
    nearly = np.full((60, 1), 3.0)
    nearly[TRAIN[0]] += 1e-42
    assert np.isfinite(fit_normalizers(write(inputs={"a": nearly}, overwrite=True), TRAIN)["a"](nearly)).all()


@pytest.mark.usefixtures("small_chunks")
def test_large_means_lose_no_precision(write: Write) -> None:
    rng = np.random.default_rng(0)
    a = 1e9 + rng.normal(size=(60, 2))
    normalizer = fit_normalizers(write(inputs={"a": a}), np.arange(60))["a"]
    np.testing.assert_allclose(normalizer.std, (a - 1e9).std(axis=0), rtol=1e-7)
    np.testing.assert_allclose(normalizer(a).std(axis=0), 1, rtol=1e-5)
    whole = 2**30 + rng.integers(0, 100, (60, 1))  # float32 cannot represent these last digits
    normalizer = fit_normalizers(write(inputs={"a": whole}, overwrite=True), np.arange(60))["a"]
    np.testing.assert_allclose(normalizer(whole), (whole - whole.mean()) / whole.std(), rtol=1e-5, atol=1e-6)


def test_none_only_converts(write: Write) -> None:
    inputs = {
        "float": RNG.random((60, 2)),
        "int": np.arange(60, dtype=np.int16)[:, None],
        "bool": RNG.random((60, 1)) > 0.5,
        "byte": np.arange(60, dtype=np.uint8)[:, None],
    }
    dataset = write(inputs=inputs, normalize="none")
    for name, normalizer in fit_normalizers(dataset, TRAIN).items():
        expected = inputs[name] / 255 if name == "byte" else inputs[name]
        np.testing.assert_allclose(normalizer(dataset.array(name)), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["sequence", "image", "video"])
def test_by_clip_each_sample_has_mean_0_and_deviation_1(
    write: Write, inputs: dict[str, Any], kind: str
) -> None:
    array = inputs[kind].copy()
    array[3] = 7  # constant
    axis = 1 if kind == "sequence" else -3
    np.moveaxis(array, axis + (kind == "sequence"), 1)[4, 0] = 5  # one feature or channel is
    if kind == "sequence":
        array[5, 3:] = array[6] = 0  # padding
    dataset = write(inputs={"a": array}, normalize="clip")
    normalizer = fit_normalizer(dataset.array("a"), dataset.modalities["a"], TRAIN)
    found = normalizer(np.asarray(dataset.array("a")))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(normalizer(array[7:9]), found[7:9])
    for sample, changed in zip(array.astype(np.float64), found, strict=True):
        steps = [step for step in sample if step.any()] if kind == "sequence" else sample
        if not len(steps):
            assert not changed.any()
            continue
        channels = sample.shape[axis]
        for c in range(channels):
            values = np.take(np.array(steps), c, axis=axis).ravel().tolist()
            mean = sum(values) / len(values)
            std = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5 or 1.0
            expected = (np.take(sample, c, axis=axis) - mean) / std
            if kind == "sequence":
                expected = np.where(sample.any(axis=1), expected, 0)
            np.testing.assert_allclose(np.take(changed, c, axis=axis), expected, rtol=2e-6, atol=2e-6)


def test_by_clip_other_samples_and_a_change_of_scale_do_not_count(write: Write) -> None:
    array = RNG.random((60, 5, 3))
    other = 1e6 + 1e3 * RNG.random((60, 5, 3))
    other[7] = 20 * array[7] + 4
    found = [
        fit_normalizers(dataset := write(inputs={"a": one}, normalize="clip", overwrite=True), TRAIN)["a"](
            dataset.array("a")[7:8]
        )
        for one in (array, other)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-6)


def test_by_clip_needs_several_values_of_a_feature(write: Write) -> None:
    inputs = {"a": RNG.random((60, 3)), "b": RNG.random((60, 4, 3)), "c": np.ones((60, 4), int)}
    with pytest.raises(DataError, match="'a' is a vector, with one value a feature"):
        write(inputs=inputs, normalize="clip")
    dataset = write(inputs=inputs, normalize={"b": "clip", "c": "clip"}, kinds={"c": "tokens"})
    assert [spec.normalize for spec in dataset.modalities.values()] == ["standard", "clip", "none"]


def test_stored_features_are_not_changed(dataset: PreparedDataset) -> None:
    array = np.array(dataset.array("vector"))
    before = array.copy()
    fit_normalizers(dataset, TRAIN)["vector"](array)
    np.testing.assert_array_equal(array, before)


def test_no_rows(dataset: PreparedDataset) -> None:
    empty = np.array([], dtype=np.int64)
    with pytest.raises(DataError, match="train split of 'kinds' is empty"):
        fit_normalizers(dataset, empty)
    with pytest.raises(DataError, match="no rows"):
        fit_normalizer(dataset.array("vector"), dataset.modalities["vector"], empty)


def test_one_row_is_constant(tmp_path: Any) -> None:
    dataset = write_dataset(tmp_path / "one", {"a": RNG.random((4, 2))}, [0, 1, 0, 1])
    assert fit_normalizers(dataset, np.array([2]))["a"].std.tolist() == [1, 1]
