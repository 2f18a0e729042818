"""AVE from files in its official layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from equipoise.data.datasets.ave import AVE
from equipoise.data.format.leaks import guard
from equipoise.data.format.splits import splits_of
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.media.audio import read_audio
from equipoise.types import DataError, LeakError, UsageError
from media_files import lfs_pointer, moving_square, tone, write_video

RATE = 16000
HEADER = "Category&VideoID&Quality&StartTime&EndTime"
LINES = {
    "trainSet.txt": [
        "Church bell&-bell_one01&good&0&10",
        "Bark&bark_one_01&good&1&3",
        "Bark&bark_two_02&good&0&2",
    ],
    "valSet.txt": ["Church bell&bell_two_02&good&0&3", "Bark&bark_thr_03&good&0&3"],
    "testSet.txt": ["Church bell&bell_thr_03&good&0&4", "Bark&bark_fou_04&good&2&4"],
}


def video_of(line: str) -> str:
    return line.split("&")[1]


def pictures(number: int) -> np.ndarray:
    return np.roll(moving_square(40, 32, 48), 4 * number, axis=2)


def write_lists(folder: Path, lines: dict[str, list[str]]) -> None:
    for file, rows in lines.items():
        (folder / file).write_text("\n".join(rows) + "\n")
    rows = sorted({row for part in lines.values() for row in part})
    (folder / "Annotations.txt").write_text("\n".join([HEADER, *rows]) + "\n")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Videos of four seconds with ten frames a second; the sound gets louder each second."""
    folder = tmp_path / "AVE_Dataset"
    folder.mkdir()
    write_lists(folder, LINES)
    for number, line in enumerate(line for part in LINES.values() for line in part):
        wave = tone(400 + 50 * number, RATE, 4.0, 0.2) * np.repeat(np.arange(1, 5), RATE)
        write_video(folder / "AVE" / f"{video_of(line)}.mp4", pictures(number), 10, wave=wave, rate=RATE)
    return folder


def test_whole_videos_are_stored_with_class_and_split(source: Path, tmp_path: Path) -> None:
    plan = AVE(pixels=32, frames=2).plan(source)
    assert plan.classes == ("Bark", "Church bell")
    dataset = prepare(plan, tmp_path / "out", workers=1).dataset
    assert dataset.split is not None
    lines = [(file[:-7], line) for file, part in LINES.items() for line in part]
    assert dataset.ids.tolist() == [video_of(line) for _, line in lines]
    for row, (split, line) in enumerate(lines):
        assert dataset.split[row] == split
        assert dataset.classes[dataset.target[row]] == line.split("&")[0]
        expected = np.moveaxis(pictures(row)[[10, 30], :, 8:40], -1, 1).astype(int)
        assert np.abs(dataset.array("video")[row] - expected).mean() < 8
    assert plan.notes == ()
    assert plan.facts["annotated_in_no_list"] == 0
    assert guard(dataset, splits_of(dataset)) == []


def test_events_are_cut_out_of_their_videos(source: Path) -> None:
    plan = AVE(part="event", pixels=32, frames=2).plan(source)
    clip = next(clip for clip in plan.clips if clip.id == "bark_one_01")
    assert (clip.start, clip.seconds) == (1, 2)
    frames = plan.readers["video"].read(clip)
    # Seconds 1 to 3 are frames 10 to 29; the middles of their halves are 15 and 25.
    expected = np.moveaxis(pictures(1)[[15, 25], :, 8:40], -1, 1).astype(int)
    assert np.abs(frames - expected).mean() < 8
    wave = read_audio(clip.files["audio"], RATE, start=clip.start, seconds=clip.seconds)
    assert abs(len(wave) - 2 * RATE) <= 2048
    louder = np.abs(wave[RATE + 2000 :]).max() / np.abs(wave[2000 : RATE - 2000]).max()
    assert abs(louder - 1.5) < 0.1


def test_a_video_with_two_classes_gives_two_samples_of_one_group(source: Path) -> None:
    lines = {**LINES, "trainSet.txt": [*LINES["trainSet.txt"], "Church bell&bark_one_01&good&3&4"]}
    write_lists(source, lines)
    clips = [clip for clip in AVE().plan(source).clips if clip.group == "bark_one_01"]
    assert [(clip.id, clip.label) for clip in clips] == [
        ("bark_one_01", "Bark"),
        ("bark_one_01+2", "Church bell"),
    ]


def test_an_event_listed_twice_becomes_one_sample_of_the_whole_video(source: Path) -> None:
    lines = {**LINES, "trainSet.txt": [*LINES["trainSet.txt"], "Bark&bark_one_01&good&3&4"]}
    write_lists(source, lines)
    plan = AVE().plan(source)
    assert len(plan.clips) == 7
    assert plan.facts["repeated_lines"] == 1
    assert any("1 lines repeat" in note for note in plan.notes)
    assert len(AVE(part="event").plan(source).clips) == 8


def test_a_video_in_two_lists_is_noted_and_refused_later(source: Path, tmp_path: Path) -> None:
    lines = {**LINES, "testSet.txt": [*LINES["testSet.txt"], "Bark&bark_two_02&good&0&2"]}
    write_lists(source, lines)
    plan = AVE(pixels=8, frames=1).plan(source)
    assert plan.facts["shared_videos"] == {"train and val": 0, "train and test": 1, "val and test": 0}
    assert "bark_two_02" in plan.notes[-1]
    assert "--allow-leaks" in plan.notes[-1]
    dataset = prepare(plan, tmp_path / "out", workers=1).dataset
    with pytest.raises(LeakError, match="bark_two_02"):
        guard(dataset, splits_of(dataset))


def test_lists_and_annotations_are_compared(source: Path) -> None:
    with (source / "Annotations.txt").open("a") as file:
        file.write("Bark&never_used1&good&0&10\nBark&never_used2&good&0&10\n")
    plan = AVE().plan(source)
    assert plan.facts["annotated_in_no_list"] == 2
    assert "2 annotated events are in no list" in plan.notes[0]


def test_events_without_length_use_the_whole_video(source: Path) -> None:
    lines = {**LINES, "valSet.txt": [*LINES["valSet.txt"], "Bark&bark_fiv_05&good&4&4"]}
    write_lists(source, lines)
    plan = AVE(part="event").plan(source)
    clip = next(clip for clip in plan.clips if clip.id == "bark_fiv_05")
    assert (clip.start, clip.seconds) == (0, None)
    assert plan.facts["events_without_length"] == 1


def test_mistakes_are_reported(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no 'AVE', 'trainSet.txt'"):
        AVE().plan(source / "AVE")
    with pytest.raises(UsageError, match="part"):
        AVE(part="all").plan(source)  # type: ignore[arg-type]
    write_lists(source, {**LINES, "testSet.txt": ["Bark&bark_fou_04&good&0&10"]})
    with pytest.raises(DataError, match="'Church bell' has no sample in .*/testSet.txt"):
        AVE().plan(source)
    write_lists(source, {**LINES, "testSet.txt": ["Bark&bark_fou_04&good&begin&10"]})
    with pytest.raises(DataError, match="StartTime"):
        AVE().plan(source)
    write_lists(source, LINES)
    file = source / "AVE" / "bark_one_01.mp4"
    file.unlink()
    lfs_pointer(file)
    (source / "AVE" / "bell_two_02.mp4").unlink()
    plan = AVE(pixels=8, frames=1).plan(source)
    with pytest.raises(DataError, match="bark_one_01.mp4 is a Git LFS pointer"):
        prepare(plan, tmp_path / "out", workers=1)
