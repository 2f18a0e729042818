"""Kinetics-Sounds from clips and lists as published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from equipoise.data.datasets.kinetics_sounds import KineticsSounds, youtube_id
from equipoise.data.format.leaks import guard
from equipoise.data.format.splits import splits_of
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.finding import find_media
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.media.spectrograms import fbank
from equipoise.types import DataError, LeakError, UsageError
from media_files import lfs_pointer, moving_square, tone, write_image, write_video, write_wav

LISTS = Path(__file__).parents[4] / "shared" / "data" / "splits"
RATE = 16000
VIDEOS = [f"-{letter}mNt_x4kQ{number}" for number, letter in enumerate("abcdefgh")]
TRAIN = [f"{video}_000010_000020" for video in VIDEOS[:6]]
TEST = [f"{video}_7" for video in VIDEOS[6:]]
LENGTH = 0.4


def frames_of(name: str) -> np.ndarray:
    number = VIDEOS.index(name[:11])
    return np.roll(moving_square(10, 32, 48), 4 * number, axis=2)


def sound_of(name: str) -> np.ndarray:
    return tone(300 + 150 * VIDEOS.index(name[:11]), RATE, LENGTH)


def quantized(name: str) -> np.ndarray:
    return np.round(sound_of(name) * 32767).astype(np.int16)


def write_lists(folder: Path, train: list[str] = TRAIN, test: list[str] = TEST) -> dict[str, str]:
    options = {}
    for part, names in {"train": train, "test": test}.items():
        rows = [f"{name},10,{VIDEOS.index(name[:11]) % 2}" for name in names]
        (folder / f"{part}.txt").write_text("\n".join(rows) + "\n")
        options[f"{part}_list"] = str(folder / f"{part}.txt")
    return options


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips in folders of splits and classes; names of test clips contain begin and end."""
    folder = tmp_path_factory.mktemp("kinetics sounds")
    for name in TRAIN:
        path = folder / "train" / f"class {VIDEOS.index(name[:11]) % 2}" / f"{name}.mp4"
        write_video(path, frames_of(name), wave=sound_of(name), rate=RATE)
    for name in TEST:
        path = folder / "test" / f"{name[:11]}_000007_000017.mp4"
        write_video(path, frames_of(name), wave=sound_of(name), rate=RATE)
    return folder


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as sound files and folders of pictures."""
    folder = tmp_path_factory.mktemp("extracted")
    for name in TRAIN + TEST:
        write_wav(folder / "audio" / f"{name}.wav", quantized(name), RATE)
        for second, frame in enumerate(frames_of(name)[:3]):
            write_image(folder / "frames" / name / f"{second}.png", frame)
    return folder


def test_stored_arrays_equal_the_clips(source: Path, tmp_path: Path) -> None:
    plan = KineticsSounds(**write_lists(tmp_path), pixels=32).plan(source)
    dataset = prepare(plan, tmp_path / "out", workers=1).dataset
    assert dataset.ids.tolist() == TRAIN + TEST
    assert dataset.split is not None
    assert dataset.split.tolist() == ["train"] * 6 + ["test"] * 2
    assert dataset.array("audio").shape[1:] == (1, 128, 1024)
    for row, name in enumerate(dataset.ids):
        assert dataset.classes[dataset.target[row]] == str(VIDEOS.index(name[:11]) % 2)
        frames = np.moveaxis(frames_of(name)[[1, 5, 8], :, 8:40], -1, 1).astype(int)
        assert np.abs(dataset.array("video")[row] - frames).mean() < 8
        wave = sound_of(name)
        pure = ((fbank(wave - wave.mean(), RATE, 128) + 4.503877) / (2 * 5.141276)).T
        stored = dataset.array("audio")[row, :, :, : pure.shape[1]].astype(np.float32)
        # A lossy codec keeps the strong frequency bins, which are those of the tone.
        strong = pure > pure.max() - 0.2
        assert np.abs(stored[0] - pure)[strong].mean() < 0.05


def test_sound_files_and_pictures_can_replace_clips(extracted: Path, tmp_path: Path) -> None:
    plan = KineticsSounds(**write_lists(tmp_path), pixels=32).plan(extracted)
    assert plan.facts["layout"] == "frames"
    for clip in plan.clips:
        frames = np.moveaxis(frames_of(clip.id)[:3, :, 8:40], -1, 1)
        assert np.array_equal(plan.readers["video"].read(clip), frames)
        wave = (quantized(clip.id) / 32768).astype(np.float32)
        pure = ((fbank(wave - wave.mean(), RATE, 128) + 4.503877) / (2 * 5.141276)).T
        assert np.allclose(plan.readers["audio"].read(clip)[0, :, : pure.shape[1]], pure, atol=0.01)


def test_class_names_match_their_numbers(source: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("playing harp\ntap dancing, tapping\n")
    plan = KineticsSounds(**write_lists(tmp_path), class_names=str(tmp_path / "names.txt")).plan(source)
    assert plan.classes == ("playing harp", "tap dancing, tapping")
    assert [clip.label for clip in plan.clips[:3]] == ["playing harp", "tap dancing, tapping", "playing harp"]
    (tmp_path / "names.txt").write_text("playing harp\n")
    with pytest.raises(DataError, match="use the classes '1', but .* names 1"):
        KineticsSounds(**write_lists(tmp_path), class_names=str(tmp_path / "names.txt")).plan(source)
    (tmp_path / "names.txt").write_text("playing harp\ntap dancing\nsinging\n")
    with pytest.raises(DataError, match="the class 'singing' has no sample"):
        KineticsSounds(**write_lists(tmp_path), class_names=str(tmp_path / "names.txt")).plan(source)


def test_a_video_in_train_and_test_is_noted_and_refused_later(source: Path, tmp_path: Path) -> None:
    other = f"{VIDEOS[0]}_000050_000060"
    clip = source / "test" / f"{other}.mp4"
    write_video(clip, frames_of(other)[::-1], wave=sound_of(other)[::-1] / 2, rate=RATE)
    options = write_lists(tmp_path, test=[*TEST, other])
    plan = KineticsSounds(**options, pixels=8, frames=1).plan(source)
    assert plan.facts["shared_videos"] == {"train and test": 1}
    assert VIDEOS[0] in plan.notes[0]
    dataset = prepare(plan, tmp_path / "out", workers=1).dataset
    with pytest.raises(LeakError, match=VIDEOS[0]):
        guard(dataset, splits_of(dataset))
    clip.unlink()


def test_groups_are_videos() -> None:
    assert youtube_id("--4-0ihtnBU_000058_000068") == "--4-0ihtnBU"
    assert youtube_id("a_c-efghijk_2") == "a_c-efghijk"
    assert youtube_id("abcdefghijk") == "abcdefghijk"
    assert youtube_id("a clip of my own") == "a clip of my own"


def test_invalid_lists_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--train-list and --test-list"):
        KineticsSounds().plan(source)
    with pytest.raises(DataError, match="more than once"):
        KineticsSounds(**write_lists(tmp_path, train=[*TRAIN, TRAIN[2]])).plan(source)
    with pytest.raises(DataError, match="1 samples .* are in both"):
        KineticsSounds(**write_lists(tmp_path, train=[*TRAIN, TEST[0]])).plan(source)
    options = write_lists(tmp_path)
    Path(options["test_list"]).write_text(f"{TEST[0]},ten,1\n")
    with pytest.raises(DataError, match="the length 'ten'"):
        KineticsSounds(**options).plan(source)
    Path(options["test_list"]).write_text(f"{TEST[0]} 10 1\n")
    with pytest.raises(DataError, match="line 1, has 1 fields, expected 'id,seconds,label'"):
        KineticsSounds(**options).plan(source)
    lfs_pointer(Path(options["test_list"]))
    with pytest.raises(MediaError, match="git lfs pull"):
        KineticsSounds(**options).plan(source)


def test_missing_clips(source: Path, tmp_path: Path) -> None:
    gone = [*TRAIN, f"{VIDEOS[1]}_000099_000109"]
    plan = KineticsSounds(**write_lists(tmp_path, train=gone), frames=1, pixels=8).plan(source)
    with pytest.raises(DataError, match=f"{VIDEOS[1]}_000099_000109"):
        prepare(plan, tmp_path / "out", workers=1)
    assert len(prepare(plan, tmp_path / "out", workers=1, allow_missing=True).dataset) == 8
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no video of the 9 listed samples.*0 videos, 0 sound files"):
        KineticsSounds(**write_lists(tmp_path, train=gone)).plan(tmp_path / "empty")


def test_two_files_with_one_name_are_refused(source: Path, tmp_path: Path) -> None:
    options = write_lists(tmp_path)
    (source / "train" / "again").mkdir()
    twin = source / "train" / "again" / f"{TRAIN[0]}.mp4"
    twin.write_bytes(b"another")
    with pytest.raises(DataError, match="several files .* are named"):
        KineticsSounds(**options).plan(source)
    twin.unlink()
    (source / "train" / "again").rmdir()
    for place in "ab":
        (source / place).mkdir()
        (source / place / "moved.mp4").write_bytes(b"either")
    with pytest.raises(DataError, match=r"named 'moved' \('a/moved.mp4', 'b/moved.mp4'\)"):
        find_media(source).pick("video", ["moved"], "train")
    for place in "ab":
        (source / place / "moved.mp4").unlink()
        (source / place).rmdir()
    # A file of the same name in the folder of another split is not the listed one.
    (source / "val").mkdir()
    (source / "val" / f"{TRAIN[0]}.mp4").write_bytes(b"another")
    first = KineticsSounds(**options).plan(source).clips[0]
    assert "val" not in first.files["video"].parts
    (source / "val" / f"{TRAIN[0]}.mp4").unlink()
    (source / "val").rmdir()


@pytest.mark.skipif(not LISTS.is_dir(), reason="published lists are not available")
def test_a_published_list_shares_no_video(tmp_path: Path) -> None:
    options = {f"{part}_list": str(LISTS / f"kinetics_sounds_my_{part}.txt") for part in ("train", "test")}
    (tmp_path / "--4-0ihtnBU_000058_000068.mp4").write_bytes(b"one of them")
    plan = KineticsSounds(**options).plan(tmp_path)
    assert Counter(clip.split for clip in plan.clips) == {"train": 14799, "test": 2597}
    assert plan.classes == tuple(str(number) for number in range(31))
    assert plan.facts["shared_videos"] == {"train and test": 0}
    assert plan.notes == ()
    assert len({clip.group for clip in plan.clips}) == 17396
