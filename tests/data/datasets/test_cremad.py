"""CREMA-D from files in its official layout, and from published lists."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from equipoise.data.datasets.cremad import EMOTIONS, CremaD
from equipoise.data.format.leaks import guard
from equipoise.data.format.splits import splits_of
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.media.video import read_frames
from equipoise.types import DataError, LeakError, UsageError
from media_files import lfs_pointer, moving_square, tone, write_image, write_video, write_wav

LISTS = Path(__file__).parents[4] / "shared" / "data" / "splits"
needs_lists = pytest.mark.skipif(not LISTS.is_dir(), reason="published lists are not available")
ACTORS = ("1001", "1002", "1003", "1004")
RATE = 16000


def sound(number: int) -> np.ndarray:
    return tone(200 + 40 * number, RATE, 0.5)


def names(actors: tuple[str, ...] = ACTORS) -> list[str]:
    return [f"{actor}_DFA_{emotion}_XX" for actor in actors for emotion in EMOTIONS]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four actors with a clip of each emotion."""
    folder = tmp_path_factory.mktemp("crema d ü")
    for number, name in enumerate(names()):
        write_wav(folder / "AudioWAV" / f"{name}.wav", sound(number), RATE)
        frames = np.roll(moving_square(10, 32, 48), 2 * number, axis=2)
        write_video(folder / "VideoFlash" / f"{name}.flv", frames)
    return folder


def copied(source: Path, target: Path) -> Path:
    """Return a copy of the source made of links, for tests that damage it."""
    for file in sorted(source.rglob("*.*")):
        if file.is_file():
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    return target


def write_list(path: Path, rows: list[str], header: str = "") -> str:
    path.write_text("".join(f"{row}\r\n" for row in ([header] if header else []) + rows))
    return str(path)


def split_files(
    folder: Path, train: tuple[str, ...] = ACTORS[:3], test: tuple[str, ...] = ACTORS[3:]
) -> list:
    rows = {
        part: [f"{name},{name.split('_')[2]}" for name in names(who)]
        for part, who in {"train": train, "test": test}.items()
    }
    return [write_list(folder / f"my_{part}.csv", lines, "name,label") for part, lines in rows.items()]


def test_stored_arrays_equal_the_files(source: Path, tmp_path: Path) -> None:
    plan = CremaD(pixels=32).plan(source)
    made = prepare(plan, tmp_path / "out", workers=1)
    dataset = made.dataset
    assert sorted(dataset.ids) == sorted(names())
    assert dataset.classes == EMOTIONS
    audio, video = dataset.array("audio"), dataset.array("video")
    for row, name in enumerate(dataset.ids):
        number = names().index(name)
        assert dataset.classes[dataset.target[row]] == name.split("_")[2]
        assert dataset.group is not None
        assert dataset.group[row] == name[:4]
        # The loudest of 257 frequencies up to 11,025 Hz is that of the written tone.
        loudest = audio[row, 0].astype(np.float32).mean(1).argmax()
        assert abs(loudest * 22050 / 512 - (200 + 40 * number)) < 30
        frames = np.roll(moving_square(10, 32, 48), 2 * number, axis=2)[[1, 5, 8], :, 8:40]
        difference = np.abs(video[row].astype(int) - np.moveaxis(frames, -1, 1))
        assert difference.mean() < 8, name
    assert audio.shape[1:] == (1, 257, 188)


def test_actors_are_in_one_split_each_and_the_guard_agrees(source: Path, tmp_path: Path) -> None:
    plan = CremaD(pixels=8, frames=1).plan(source)
    parts = {
        split: {clip.group for clip in plan.clips if clip.split == split}
        for split in ("train", "val", "test")
    }
    assert {split: len(actors) for split, actors in parts.items()} == {"train": 2, "val": 1, "test": 1}
    assert not parts["train"] & parts["test"] | parts["train"] & parts["val"] | parts["val"] & parts["test"]
    assert set(plan.facts["shared_actors"].values()) == {0}
    dataset = prepare(plan, tmp_path / "out", workers=1).dataset
    assert [leak for leak in guard(dataset, splits_of(dataset)) if leak.kind == "group"] == []


def test_the_draw_depends_on_the_seed_only(source: Path, tmp_path: Path) -> None:
    def drawn(folder: Path, seed: int) -> dict[str, str | None]:
        return {clip.group or "": clip.split for clip in CremaD(split_seed=seed).plan(folder).clips}

    fewer = copied(source, tmp_path / "fewer")
    actor = next(actor for actor, split in drawn(source, 0).items() if split == "train")
    for ending in (f"AudioWAV/{actor}_DFA_ANG_XX.wav", f"VideoFlash/{actor}_DFA_ANG_XX.flv"):
        (fewer / ending).unlink()
    assert drawn(source, 0) == drawn(fewer, 0)
    assert len({tuple(drawn(source, seed).items()) for seed in range(10)}) > 1


def test_shared_actors_of_lists_are_noted_and_refused_later(source: Path, tmp_path: Path) -> None:
    rows = [f"{name},{name.split('_')[2]}" for name in names()]
    files = [
        write_list(tmp_path / "train.csv", [row for row in rows if not row.startswith("1004")]),
        write_list(tmp_path / "test.csv", [row for row in rows if row.startswith("1004")]),
    ]
    apart = CremaD(split_files=tuple(files)).plan(source)
    assert apart.facts["shared_actors"] == {"train and test": 0}
    assert apart.notes == ()
    extra = [f"1001_IEO_{emotion}_XX,{emotion}" for emotion in EMOTIONS]
    spoilt = copied(source, tmp_path / "more")
    for row in extra:
        name = row.split(",")[0]
        write_wav(spoilt / "AudioWAV" / f"{name}.wav", tone(1000 + len(name), RATE, 0.4), RATE)
        write_video(spoilt / "VideoFlash" / f"{name}.flv", moving_square(7, 32, 48))
    files[1] = write_list(tmp_path / "test.csv", [row for row in rows if row.startswith("1004")] + extra)
    shared = CremaD(split_files=tuple(files), frames=1, pixels=8).plan(spoilt)
    assert shared.facts["shared_actors"] == {"train and test": 1}
    assert "'1001'" in shared.notes[0]
    assert "--allow-leaks" in shared.notes[0]
    dataset = prepare(shared, tmp_path / "out", workers=1).dataset
    with pytest.raises(LeakError, match="1001"):
        guard(dataset, splits_of(dataset))


def test_unlisted_clips_are_counted(source: Path, tmp_path: Path) -> None:
    plan = CremaD(split_files=tuple(split_files(tmp_path, ACTORS[:2]))).plan(source)
    assert plan.facts["clips_in_no_list"] == 6
    assert any("6 clips are in no list" in note for note in plan.notes)
    assert len(plan.clips) == 18


def test_fingerprints_depend_on_the_rows_and_not_on_the_file(source: Path, tmp_path: Path) -> None:
    files = split_files(tmp_path)
    before = CremaD(split_files=tuple(files)).plan(source).facts["lists"]
    Path(files[0]).write_bytes(b"\xef\xbb\xbf" + Path(files[0]).read_bytes().replace(b"\r\n", b"\n"))
    assert CremaD(split_files=tuple(files)).plan(source).facts["lists"] == before
    text = Path(files[0]).read_text(encoding="utf-8-sig").splitlines()
    Path(files[0]).write_text("\n".join(text[:-2] + text[:-3:-1]))
    after = CremaD(split_files=tuple(files)).plan(source).facts["lists"]
    assert after[0]["fingerprint"] != before[0]["fingerprint"]
    assert after[1] == before[1]


def test_listed_clips_without_files_are_missing(source: Path, tmp_path: Path) -> None:
    files = split_files(tmp_path)
    with Path(files[0]).open("a") as file:
        file.write("1005_DFA_ANG_XX,ANG\n")
    plan = CremaD(split_files=tuple(files), frames=1, pixels=8).plan(source)
    with pytest.raises(DataError, match="1005_DFA_ANG_XX"):
        prepare(plan, tmp_path / "refused", workers=1)
    made = prepare(plan, tmp_path / "allowed", workers=1, allow_missing=True)
    assert len(made.dataset) == 24


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1001_DFA_ANG_XX,SAD", "a label that differs from the emotion"),
        ("1001_DFA_ANG_XX,ANG", "more than once"),
        ("1004_DFA_ANG_XX,ANG", "are in both"),
        ("whatever,ANG", "expected names of CREMA-D"),
        ("1001_IEO_ANG_HI", "has 1 fields"),
    ],
)
def test_invalid_lists_are_refused(source: Path, tmp_path: Path, row: str, message: str) -> None:
    files = split_files(tmp_path)
    with Path(files[0]).open("a") as file:
        if "SAD" in row:
            file.seek(0)
            Path(files[0]).write_text(row + "\n")
        else:
            file.write(row + "\n")
    with pytest.raises(DataError, match=message):
        CremaD(split_files=tuple(files)).plan(source)


def test_an_emotion_without_clips_is_named(source: Path, tmp_path: Path) -> None:
    files = [
        write_list(tmp_path / "train.csv", ["1001_DFA_ANG_XX,ANG"]),
        write_list(tmp_path / "test.csv", ["1002_DFA_SAD_XX,SAD"]),
    ]
    with pytest.raises(DataError, match="'DIS', 'FEA', 'HAP' and 1 more have no sample"):
        CremaD(split_files=tuple(files)).plan(source)


def test_lists_with_an_ambiguous_split_are_refused(source: Path, tmp_path: Path) -> None:
    train, test = split_files(tmp_path)
    for given in (
        (train,),
        (train, train),
        (train, write_list(tmp_path / "latest.csv", ["1001_DFA_ANG_XX,ANG"])),
    ):
        with pytest.raises(UsageError):
            CremaD(split_files=given).plan(source)
    assert {clip.split for clip in CremaD(split_files=(train, test)).plan(source).clips} == {"train", "test"}


def test_a_wrong_folder_is_reported(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        CremaD().plan(tmp_path / "nowhere")
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"no 'AudioWAV'; it holds 'photos'.*expected AudioWAV"):
        CremaD().plan(tmp_path)
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "CREMA-D").symlink_to(source)
    with pytest.raises(DataError, match="give .*CREMA-D"):
        CremaD().plan(tmp_path / "up")
    (tmp_path / "deaf" / "AudioWAV").mkdir(parents=True)
    with pytest.raises(DataError, match="VideoFlash or VideoMP4"):
        CremaD().plan(tmp_path / "deaf")


def test_pointers_of_git_lfs_are_recognised(source: Path, tmp_path: Path) -> None:
    spoilt = copied(source, tmp_path / "spoilt")
    for file in (spoilt / "VideoFlash").iterdir():
        file.unlink()
        lfs_pointer(file)
    plan = CremaD().plan(spoilt)
    with pytest.raises(MediaError, match="git lfs pull"):
        plan.readers["video"].read(plan.clips[0])
    with pytest.raises(DataError, match="git lfs pull"):
        prepare(plan, tmp_path / "out", workers=1)


def test_folders_of_pictures_can_replace_videos(source: Path, tmp_path: Path) -> None:
    spoilt = copied(source, tmp_path / "pictures")
    for number, name in enumerate(names()):
        (spoilt / "VideoFlash" / f"{name}.flv").unlink()
        for second in range(3):
            pixels = np.full((16, 16, 3), 40 * second + number, np.uint8)
            write_image(spoilt / "Image-01-FPS" / name / f"{second + 1}.jpg", pixels, quality=95)
    (spoilt / "VideoFlash").rmdir()
    plan = CremaD(pixels=16, pick="second").plan(spoilt)
    assert plan.facts["videos"] == "Image-01-FPS"
    for clip in plan.clips[:3]:
        number = names().index(clip.id)
        levels = plan.readers["video"].read(clip).mean(axis=(1, 2, 3))
        assert np.allclose(levels, [number, 40 + number, 80 + number], atol=2)
    assert np.array_equal(
        plan.readers["video"].read(plan.clips[0]),
        read_frames(plan.clips[0].files["video"], 3, 16, pick="second"),
    )


def test_recipe_fbank_and_wrong_options(source: Path) -> None:
    plan = CremaD(recipe="fbank").plan(source)
    assert plan.readers["audio"].layout.shape == (1, 128, 300)
    assert plan.readers["audio"].read(plan.clips[0]).shape == (1, 128, 300)
    with pytest.raises(UsageError, match="recipe"):
        CremaD(recipe="mfcc").plan(source)  # type: ignore[arg-type]


@needs_lists
def test_the_sexes_of_the_real_actors_are_balanced(tmp_path: Path) -> None:
    for folder in ("AudioWAV", "VideoFlash"):
        (tmp_path / folder).mkdir()
    for file in ("SentenceFilenames", "VideoDemographics"):
        (tmp_path / f"{file}.csv").symlink_to(LISTS / f"cremad_meta_{file}.csv")
    plan = CremaD().plan(tmp_path)
    assert len(plan.clips) == 7442
    assert plan.facts["actors"] == {"test": 18, "train": 64, "val": 9} | {}
    sexes = dict(
        line.replace('"', "").split(",")[0::2][:2]
        for line in (tmp_path / "VideoDemographics.csv").read_text().split("\n")[1:92]
    )
    for split, (low, high) in {"test": (9, 10), "val": (4, 6), "train": (33, 35)}.items():
        actors = {clip.group for clip in plan.clips if clip.split == split}
        assert low <= sum(sexes[str(actor)] == "Male" for actor in actors) <= high
    share = Counter(clip.split for clip in plan.clips)
    assert abs(share["train"] / 7442 - 64 / 91) < 0.01


@needs_lists
@pytest.mark.parametrize(
    ("lists", "counts"),
    [
        (("dnr_my_train", "dnr_val", "dnr_test"), {"train": 5954, "val": 744, "test": 744}),
        (("dnr_train", "dnr_test"), {"train": 6698, "test": 744}),
        (("ogm_train", "ogm_test"), {"train": 6698, "test": 744}),
    ],
)
def test_published_lists_share_all_actors(
    tmp_path: Path, lists: tuple[str, ...], counts: dict[str, int]
) -> None:
    for folder in ("AudioWAV", "VideoFlash"):
        (tmp_path / folder).mkdir()
    files = tuple(str(LISTS / f"cremad_{one}.csv") for one in lists)
    plan = CremaD(split_files=files).plan(tmp_path)
    assert Counter(clip.split for clip in plan.clips) == counts
    assert set(plan.facts["shared_actors"].values()) == {91}
    assert len(plan.notes) == len(plan.facts["shared_actors"])


@needs_lists
def test_lists_of_two_papers_are_recognised_as_equal_and_parts_are_refused(tmp_path: Path) -> None:
    for folder in ("AudioWAV", "VideoFlash"):
        (tmp_path / folder).mkdir()
    one, other = (
        CremaD(split_files=tuple(str(LISTS / f"cremad_{paper}_{part}.csv") for part in ("train", "test")))
        .plan(tmp_path)
        .facts["lists"]
        for paper in ("dnr", "ogm")
    )
    assert [item["fingerprint"] for item in one] == [item["fingerprint"] for item in other]
    parts = tuple(str(LISTS / f"cremad_dnr_{part}.csv") for part in ("train", "val", "test"))
    with pytest.raises(DataError, match="744 samples"):
        CremaD(split_files=parts).plan(tmp_path)
