"""VGGSound from its list and clips in its official layout."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from equipoise.data.datasets.vggsound import VGGSound
from equipoise.data.format.leaks import guard
from equipoise.data.format.splits import Splits
from equipoise.data.prepare.engine import prepare
from equipoise.types import DataError, LeakError, UnknownNameError
from media_files import moving_square, tone, write_video

RATE = 16000
ROWS = [
    ("---g-f_I2yQ", 1, "people marching", "train"),
    ("--0PQM4-hqg", 30, "waterfall burbling", "train"),
    ("--9O4XZOge4", 30, "female speech, woman speaking", "train"),
    ("--56QUhyDQM", 185, "people marching", "test"),
    ("--8puiAGLhs", 0, "waterfall burbling", "test"),
    ("-0NxpZlO348", 1130, "female speech, woman speaking", "test"),
]


def pictures(row: int) -> np.ndarray:
    return np.roll(moving_square(8, 32, 48), 5 * row, axis=2)


def write_rows(folder: Path, rows: list[tuple[str, int, str, str]]) -> None:
    with (folder / "vggsound.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Clips; every other name has no leading zeros."""
    folder = tmp_path / "vgg"
    folder.mkdir()
    write_rows(folder, ROWS)
    for row, (video, start, _, _) in enumerate(ROWS):
        name = f"{video}_{start:06d}" if row % 2 else f"{video}_{start}"
        wave = tone(300 + 100 * row, RATE, 0.5)
        write_video(folder / "videos" / f"{name}.mp4", pictures(row), wave=wave, rate=RATE)
    return folder


def test_stored_arrays_equal_the_clips(source: Path, tmp_path: Path) -> None:
    plan = VGGSound(pixels=32, frames=2, recipe="stft").plan(source)
    assert plan.classes == ("female speech, woman speaking", "people marching", "waterfall burbling")
    dataset = prepare(plan, tmp_path / "out", workers=1).dataset
    assert dataset.ids[0] == "---g-f_I2yQ_000001"
    assert dataset.array("audio").shape[1:] == (1, 257, 454)
    assert dataset.split is not None
    assert dataset.group is not None
    for row, (video, _, label, split) in enumerate(ROWS):
        assert dataset.classes[dataset.target[row]] == label
        assert (dataset.split[row], dataset.group[row]) == (split, video)
        expected = np.moveaxis(pictures(row)[[2, 6], :, 8:40], -1, 1).astype(int)
        assert np.abs(dataset.array("video")[row] - expected).mean() < 8
        loudest = dataset.array("audio")[row, 0].astype(np.float32).mean(1).argmax() * RATE / 512
        assert abs(loudest - (300 + 100 * row)) < 20


def test_a_subset_of_the_classes(source: Path) -> None:
    wanted = ("waterfall burbling", "female speech, woman speaking")
    plan = VGGSound(classes=wanted).plan(source)
    assert plan.classes == tuple(sorted(wanted))
    assert {clip.label for clip in plan.clips} == set(wanted)
    assert plan.facts["rows_of_other_classes"] == 2
    with pytest.raises(UnknownNameError, match="did you mean waterfall burbling"):
        VGGSound(classes=("waterfall burblin",)).plan(source)


def test_a_list_in_another_folder_and_clips_in_subfolders(source: Path, tmp_path: Path) -> None:
    (source / "vggsound.csv").rename(tmp_path / "mine.csv")
    with pytest.raises(DataError, match=r"no 'vggsound\.csv'; it holds 'videos'"):
        VGGSound().plan(source)
    plan = VGGSound(list_file=str(tmp_path / "mine.csv")).plan(source)
    assert [clip.files["video"].is_file() for clip in plan.clips] == [True] * 6


def test_missing_clips_are_counted(source: Path, tmp_path: Path) -> None:
    write_rows(source, [*ROWS, ("gonegonegon", 4, "people marching", "train")])
    plan = VGGSound(pixels=8, frames=1).plan(source)
    with pytest.raises(DataError, match=r"gonegonegon_000004\.mp4"):
        prepare(plan, tmp_path / "out", workers=1)
    assert len(prepare(plan, tmp_path / "out", workers=1, allow_missing=True).dataset) == 6


def test_a_video_in_train_and_test_is_noted_and_refused_later(source: Path, tmp_path: Path) -> None:
    video = ROWS[0][0]
    write_rows(source, [*ROWS, (video, 40, "people marching", "test")])
    write_video(source / f"{video}_000040.mp4", pictures(3)[::-1], wave=tone(900, RATE, 0.5), rate=RATE)
    plan = VGGSound(pixels=8, frames=1).plan(source)
    assert plan.facts["shared_videos"] == {"train and test": 1}
    assert video in plan.notes[0]
    dataset = prepare(plan, tmp_path / "out", workers=1).dataset
    assert dataset.split is not None
    train, test = (np.flatnonzero(dataset.split == split) for split in ("train", "test"))
    splits = Splits.of(train, [], test, ids=dataset.ids, origin="the list")
    with pytest.raises(LeakError, match=video):
        guard(dataset, splits)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("---g-f_I2yQ", 1, "people marching", "test"), "more than once"),
        (("abcdefghijk", 1, "people marching", "dev"), "train or test at the end"),
        (("abcdefghijk", 1, "clapping", "test"), "'clapping' has no sample in .* as train"),
    ],
)
def test_invalid_lists_are_refused(source: Path, row: tuple[str, int, str, str], message: str) -> None:
    write_rows(source, [*ROWS, row])
    with pytest.raises(DataError, match=message):
        VGGSound().plan(source)
