"""Datasets beyond vectors and classes: tokens, contents of images, numeric targets, ready arrays."""

import json
from pathlib import Path

import numpy as np
import pytest

from equipoise.data import RunData, open_dataset, splits_of, write_dataset
from equipoise.data.format.content import row_hashes
from equipoise.data.format.folder import array_file
from equipoise.data.format.modality import Layout
from equipoise.data.format.writing import finish_dataset
from equipoise.types import DataError, RunFolderError

RNG = np.random.default_rng(0)
N = 30
VALUES = RNG.normal(size=N)
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)


def test_a_numeric_target_is_stored_bit_for_bit(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", {"a": FEATURES}, VALUES, task="regression")
    dataset = open_dataset(tmp_path / "set")
    assert dataset.task == "regression"
    assert dataset.classes == ()
    assert dataset.target.dtype == np.float64
    assert np.array_equal(dataset.target, VALUES)
    assert "numeric target" in repr(dataset)


def test_the_fingerprint_distinguishes_values(tmp_path: Path) -> None:
    one = write_dataset(tmp_path / "one", {"a": FEATURES}, VALUES, task="regression")
    changed = VALUES.copy()
    changed[3] = np.nextafter(changed[3], 10)
    two = write_dataset(tmp_path / "two", {"a": FEATURES}, changed, task="regression")
    assert one.fingerprint != two.fingerprint


def test_numeric_targets_are_split_by_group(tmp_path: Path) -> None:
    groups = np.repeat(np.arange(10), 3)
    dataset = write_dataset(tmp_path / "set", {"a": FEATURES}, VALUES, group=groups, task="regression")
    splits = splits_of(dataset, seed=1)
    parts = [set(groups[rows]) for _, rows in splits.items()]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    assert sum(len(rows) for _, rows in splits.items()) == N


def test_training_serves_numbers_standardised(tmp_path: Path) -> None:
    written = write_dataset(tmp_path / "set", {"a": FEATURES, "b": FEATURES}, VALUES, task="regression")
    data = RunData(written, splits_of(written), batch_size=4)
    mean, deviation = data.target_scale
    for batch in data.train_eval:
        expected = (written.target[batch.index.numpy()] - mean) / deviation
        np.testing.assert_allclose(batch.target.numpy(), expected, atol=1e-6)
    assert float(data.train_samples.target.mean()) == pytest.approx(0, abs=1e-6)


def test_tokens_are_served_unchanged(tmp_path: Path) -> None:
    tokens = RNG.integers(0, 9000, (N, 7)).astype(np.int32)
    dataset = write_dataset(
        tmp_path / "set", {"text": tokens}, np.arange(N) % 2, kinds={"text": "tokens"}, normalize="standard"
    )
    assert dataset.modalities["text"].kind == "tokens"
    assert dataset.modalities["text"].normalize == "none"
    data = RunData(dataset, splits_of(dataset), batch_size=4)
    for batch in data.train_eval:
        assert np.array_equal(batch.inputs["text"].numpy(), tokens[batch.index.numpy()])


def test_eight_bit_tokens_are_not_treated_as_pixels(tmp_path: Path) -> None:
    tokens = RNG.integers(0, 256, (N, 7)).astype(np.uint8)
    dataset = write_dataset(tmp_path / "set", {"text": tokens}, np.arange(N) % 2, kinds={"text": "tokens"})
    batch = next(iter(RunData(dataset, splits_of(dataset), batch_size=4).train_eval))
    assert np.array_equal(batch.inputs["text"].numpy(), tokens[batch.index.numpy()])


def test_the_content_of_a_modality_is_stored_with_the_dataset(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (N, 2, 4, 4)).astype(np.uint8)
    plain = write_dataset(tmp_path / "plain", {"x": images}, np.arange(N) % 2)
    flow = write_dataset(tmp_path / "flow", {"x": images}, np.arange(N) % 2, contents={"x": "flow"})
    assert plain.modalities["x"].content is None
    assert open_dataset(tmp_path / "flow").modalities["x"].content == "flow"
    assert plain.fingerprint != flow.fingerprint
    with pytest.raises(DataError, match="even number"):
        write_dataset(tmp_path / "odd", {"x": images[:, :1]}, np.arange(N) % 2, contents={"x": "flow"})


LAYOUTS = {"a b": Layout((4,), "float32", "vector"), "t": Layout((3,), "int32", "tokens")}


def _staged(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    arrays = {"a b": FEATURES, "t": RNG.integers(0, 9, (N, 3)).astype(np.int32)}
    folder.mkdir()
    for number, (name, array) in enumerate(arrays.items()):
        np.save(folder / array_file(number, name), array)
    return arrays, {name: np.array(row_hashes(array)) for name, array in arrays.items()}


def test_ready_arrays_give_the_same_dataset_as_writing_them(tmp_path: Path) -> None:
    arrays, hashes = _staged(tmp_path / "staged")
    finished = finish_dataset(
        tmp_path / "staged",
        tmp_path / "deep" / "set",
        layouts=LAYOUTS,
        hashes=hashes,
        columns={"target": np.arange(N) % 3},
        name="ready",
        preparation={"lost": []},
    )
    written = write_dataset(
        tmp_path / "written", arrays, np.arange(N) % 3, kinds={"t": "tokens"}, name="ready"
    )
    assert finished.fingerprint == written.fingerprint
    finished.verify()
    assert finished.preparation == {"lost": []}
    assert written.preparation == {}
    assert not (tmp_path / "staged").exists()


def test_ready_arrays_are_kept_after_an_error(tmp_path: Path) -> None:
    _, hashes = _staged(tmp_path / "staged")
    options = dict(layouts=LAYOUTS, hashes=hashes, columns={"target": np.arange(N) % 3}, name="ready")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not empty"):
        finish_dataset(tmp_path / "staged", tmp_path / "taken", **options)
    wrong = {**LAYOUTS, "a b": Layout((5,), "float32", "vector")}
    with pytest.raises(DataError, match="expected"):
        finish_dataset(tmp_path / "staged", tmp_path / "set", **{**options, "layouts": wrong})
    assert not (tmp_path / "set").exists()
    assert (tmp_path / "staged" / array_file(0, "a b")).is_file()
    finish_dataset(tmp_path / "staged", tmp_path / "set", **options).verify()


def test_the_preparation_record_may_be_replaced_with_its_dataset(tmp_path: Path) -> None:
    for lost in (["x"], []):
        dataset = write_dataset(
            tmp_path / "set", {"a": FEATURES}, np.arange(N) % 2, preparation={"lost": lost}, overwrite=True
        )
        assert dataset.preparation == {"lost": lost}
        assert json.loads((tmp_path / "set" / "preparation.json").read_text()) == {"lost": lost}
