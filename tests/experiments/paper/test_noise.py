"""Noise of a stated level on one modality of a dataset."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from equipoise.data import load_dataset, write_dataset
from equipoise.experiments.paper.noise import noisy
from equipoise.experiments.paper.sets import Sources
from equipoise.types import DataError, UnknownNameError


@pytest.fixture
def clean(tmp_path: Path):
    rng, target = np.random.default_rng(0), np.arange(600) % 3
    video = rng.integers(0, 255, size=(600, 4, 1, 3, 3), dtype=np.uint8)
    video[:, 3] = 0  # padding
    sound = rng.normal(size=(600, 5)) * [1, 2, 3, 4, 5] + 7
    return write_dataset(
        tmp_path / "clean",
        {
            "sound": sound,
            "lips": video,
            "words": target[:, None] + 1,
        },
        target,
        split=["train"] * 400 + ["val"] * 100 + ["test"] * 100,
        kinds={"words": "tokens"},
        contents={"lips": "frames"},
        classes=["a", "b", "c"],
    )


def test_the_noise_has_the_stated_level_in_each_feature(clean, tmp_path: Path) -> None:
    found = noisy(clean, {"sound": 2.0}, tmp_path / "noisy")
    before, after = (np.asarray(one.array("sound"), dtype=np.float64) for one in (clean, found))
    drawn = (after - before) / before.std(axis=0)
    assert np.abs(drawn.std(axis=0) - 2).max() < 0.2  # 600 draws: a standard error of 0.06
    assert np.abs(drawn.mean(axis=0)).max() < 0.35
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.2
    for name in ("lips", "words"):
        assert np.array_equal(found.array(name), clean.array(name))
    for column in ("target", "split", "ids"):
        assert np.array_equal(getattr(found, column), getattr(clean, column))
    assert found.classes == clean.classes
    assert found.preparation["noise"] == {"sound": 2.0}
    assert "2 standard deviations on sound" in found.name


def test_noise_belongs_to_the_data(clean, tmp_path: Path) -> None:
    one, two = (noisy(clean, {"sound": 1.0}, tmp_path / name) for name in "ab")
    other = noisy(clean, {"sound": 1.0}, tmp_path / "c", seed=1)
    assert one.fingerprint == two.fingerprint != other.fingerprint


def test_a_set_with_noise_follows_the_set_that_it_is_made_from(tmp_path: Path) -> None:
    sources = Sources(tmp_path, False, tmp_path / "sets", None, lambda _: nullcontext())
    x, target = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3
    write_dataset(tmp_path / "mine", {"a": x, "b": x}, target)
    place = Path(sources.data("mine", {"a": 1.0}))
    written = (place / "dataset.json").stat().st_mtime_ns
    assert sources.data("mine", {"a": 1.0}) == str(place)
    assert (place / "dataset.json").stat().st_mtime_ns == written  # it was not made again
    write_dataset(tmp_path / "mine", {"a": x, "b": x + 1}, target, overwrite=True)
    again = load_dataset(sources.data("mine", {"a": 1.0}))
    assert np.array_equal(again.array("b"), load_dataset(tmp_path / "mine").array("b"))


def test_frames_become_numbers_and_padding_stays(clean, tmp_path: Path) -> None:
    found = noisy(clean, {"lips": 0.5}, tmp_path / "noisy")
    before, after = np.asarray(clean.array("lips"), dtype=np.float64), found.array("lips")
    assert after.dtype == np.float32
    assert not after[:, 3].any()
    assert ((after - before)[:, :3] / before.std()).std() == pytest.approx(0.5, rel=0.03)
    spec = found.modalities["lips"]
    assert (spec.kind, spec.content) == ("video", "frames")


def test_a_feature_of_a_sequence_has_one_deviation(tmp_path: Path) -> None:
    steps = np.array([-1.0, 1.0] * 300).reshape(300, 2, 1)  # no deviation within a step, 1 over all
    clean = write_dataset(tmp_path / "clean", {"sound": steps}, np.arange(300) % 2)
    drawn = noisy(clean, {"sound": 3.0}, tmp_path / "noisy").array("sound") - steps
    assert drawn.std() == pytest.approx(3.0, rel=0.1)


def test_what_gets_no_noise(clean, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'words' holds tokens"):
        noisy(clean, {"words": 1.0}, tmp_path / "noisy")
    with pytest.raises(UnknownNameError, match="did you mean sound"):
        noisy(clean, {"sond": 1.0}, tmp_path / "noisy")


def test_redrawn_noise_is_left_to_the_reading(clean, tmp_path: Path) -> None:
    found = noisy(clean, {"sound": 2.0}, tmp_path / "noisy", redrawn=True)
    assert np.array_equal(found.array("sound"), clean.array("sound"))
    assert (found.modalities["sound"].noise, found.modalities["lips"].noise) == (2.0, None)
    assert found.fingerprint != clean.fingerprint
    assert "redrawn noise of 2 standard deviations on sound" in found.name
