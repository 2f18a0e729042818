"""AVLetters from its official files and from one archive."""

from __future__ import annotations

import struct
from collections import Counter
from itertools import product
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import pytest
from scipy.io import savemat

from equipoise.data.datasets.avletters import AVLetters
from equipoise.data.prepare.clips import Clip
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.readers.avletters import LipsReader, MfccReader, read_htk, read_lips
from equipoise.types import DataError, UsageError
from media_files import lfs_pointer, truncated

REAL = Path(__file__).parents[4] / "shared" / "data" / "avletters.npz"
SPEAKERS = ("Anya", "Bill", "Yi")


def write_htk(path: Path, vectors: np.ndarray, kind: int = 6) -> Path:
    """Write vectors number by number in the format of the HTK book."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = struct.pack(">i", len(vectors)) + struct.pack(">i", 200000)
    content += struct.pack(">h", 4 * vectors.shape[1]) + struct.pack(">h", kind)
    path.write_bytes(
        content + b"".join(struct.pack(">f", value) for row in vectors.tolist() for value in row)
    )
    return path


def write_mat(path: Path, pictures: np.ndarray, **more: object) -> Path:
    """Write pictures `[T, 60, 80]` in column order, like MATLAB's `vid(:, t) = picture(:)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [[picture[row, column] for column in range(80) for row in range(60)] for picture in pictures]
    siz = np.array([[60.0, 80.0, len(pictures)]])
    savemat(path, {"vid": np.array(columns, dtype=pictures.dtype).T, "siz": siz, **more})
    return path


@pytest.fixture(scope="module")
def samples() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Lips and cepstra of three speakers, by name."""
    rng = np.random.default_rng(0)
    made = {}
    for letter, repetition, speaker in product(ascii_uppercase, (1, 2, 3), SPEAKERS):
        lips = rng.integers(0, 256, (int(rng.integers(2, 5)), 60, 80), dtype=np.uint8)
        made[f"{letter}{repetition}_{speaker}"] = lips, rng.normal(size=(7, 26)).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def official(
    samples: dict[str, tuple[np.ndarray, np.ndarray]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("avletters")
    for name, (lips, cepstra) in samples.items():
        write_mat(folder / "Lips" / f"{name}-lips.mat", lips)
        write_htk(folder / "Audio" / "mfcc" / "Clean" / f"{name}-lips.mfcc", cepstra)
    return folder


@pytest.fixture(scope="module")
def archive(
    samples: dict[str, tuple[np.ndarray, np.ndarray]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("archive") / "avletters.npz"
    lips, cepstra = zip(*samples.values(), strict=True)
    np.savez(
        path,
        lips=np.concatenate(lips),
        lips_offsets=np.cumsum([0, *map(len, lips)]),
        mfcc=np.concatenate(cepstra),
        mfcc_offsets=np.cumsum([0, *map(len, cepstra)]),
        label=np.array([ascii_uppercase.index(name[0]) for name in samples], dtype=np.int8),
        rep=np.array([int(name[1]) for name in samples]),
        speaker=np.array([name[3:] for name in samples]),
    )
    return path


def test_files_and_archive_give_the_same_arrays(
    samples: dict[str, tuple[np.ndarray, np.ndarray]], official: Path, archive: Path, tmp_path: Path
) -> None:
    option = AVLetters(frames=3, steps=4, pixels=60)
    one = prepare(option.plan(official), tmp_path / "one", workers=1).dataset
    other = prepare(option.plan(archive), tmp_path / "other", workers=1).dataset
    assert one.fingerprint == other.fingerprint
    assert sorted(one.ids) == sorted(samples)
    for row, name in enumerate(one.ids):
        lips, cepstra = samples[name]
        middle = round((len(lips) - 1) / 2)
        assert np.array_equal(one.array("video")[row, :, 0], lips[[0, middle, -1]]), name
        assert np.array_equal(one.array("audio")[row], cepstra[[0, 2, 4, 6]]), name
        assert one.classes[one.target[row]] == name[0]


def test_repetitions_determine_the_split(archive: Path) -> None:
    clips = AVLetters().plan(archive).clips
    for clip in clips:
        allowed = {"1": {"train"}, "2": {"train", "val"}, "3": {"test"}}[clip.id[1]]
        assert clip.split in allowed
        assert clip.group is None
    for part in ("label", "id"):
        for split in ("train", "val", "test"):
            of_split = [clip for clip in clips if clip.split == split]
            values = {clip.label if part == "label" else clip.id[3:] for clip in of_split}
            assert len(values) == (26 if part == "label" else 3), (part, split)
    assert Counter(clip.split for clip in clips) == {"train": 117, "val": 39, "test": 78}


def test_speakers_can_be_excluded(archive: Path) -> None:
    clips = AVLetters(split="speaker").plan(archive).clips
    parts = {clip.group: clip.split for clip in clips}
    assert sorted(parts.values()) == ["test", "train", "val"]
    assert all(parts[clip.id[3:]] == clip.split for clip in clips)


def test_pictures_are_downscaled_by_averaging_blocks(
    samples: dict[str, tuple[np.ndarray, np.ndarray]], archive: Path
) -> None:
    reader = LipsReader(count=2, height=15)
    small = reader.read(Clip("C2_Yi", "C", {"video": archive}))
    lips = samples["C2_Yi"][0]
    assert small.shape == reader.layout.shape == (2, 1, 15, 20)
    for picture, whole in zip(small[:, 0], lips[[0, -1]], strict=True):
        for row, column in ((0, 0), (3, 7), (14, 19)):
            block = whole[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert abs(int(picture[row, column]) - block.mean()) <= 0.5
    assert AVLetters().plan(archive).readers["video"].layout.shape == (12, 1, 15, 20)
    with pytest.raises(UsageError, match="pixels is 17"):
        LipsReader(height=17)


def test_cepstra_as_an_image_are_the_transposed_sequence(archive: Path) -> None:
    clip = Clip("Z3_Bill", "Z", {"audio": archive})
    plan = AVLetters(audio="image").plan(archive)
    image = plan.readers["audio"].read(clip)
    assert image.shape == plan.readers["audio"].layout.shape == (1, 26, 24)
    assert np.array_equal(image[0].T, MfccReader().read(clip))


def test_lost_files_are_counted_and_reported(official: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for file in official.rglob("*-lips.*"):
        place = source / file.relative_to(official)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file)
    lost = source / "Lips" / "B2_Bill-lips.mat", source / "Lips" / "E1_Yi-lips.mat"
    lost[0].unlink()
    lost[1].unlink()
    lfs_pointer(lost[1])
    plan = AVLetters(frames=2).plan(source)
    assert len(plan.clips) == 234
    made = prepare(plan, tmp_path / "out", workers=1, allow_missing=True)
    assert len(made.dataset) == 232
    assert not {"B2_Bill", "E1_Yi"} & set(made.dataset.ids)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sound = write_htk(tmp_path / "a.mfcc", rng.normal(size=(5, 26)))
    assert read_htk(sound).shape == (5, 26)
    truncated(sound)
    with pytest.raises(MediaError, match="header says 532") as caught:
        read_htk(sound)
    assert caught.value.reason == "truncated"
    with pytest.raises(MediaError, match="compressed"):
        read_htk(write_htk(tmp_path / "b.mfcc", rng.normal(size=(5, 26)), kind=6 | 0o2000))
    sound.write_text("no cepstra at all")
    with pytest.raises(MediaError, match="no HTK header"):
        read_htk(sound)
    lips = write_mat(tmp_path / "a.mat", rng.integers(0, 256, (3, 60, 80), dtype=np.uint8))
    truncated(lips, 0.9)
    with pytest.raises(MediaError, match=r"a\.mat"):
        read_lips(lips)
    whole = write_mat(tmp_path / "b.mat", rng.integers(0, 256, (3, 60, 80), dtype=np.uint8)).read_bytes()
    for end in range(1, 400, 13):
        lips.write_bytes(whole[:end])
        with pytest.raises(MediaError, match=r"a\.mat"):
            read_lips(lips)
    lips.write_text("no pictures at all")
    with pytest.raises(MediaError, match=r"a\.mat"):
        read_lips(lips)
    savemat(lips, {"video": np.zeros((4800, 3))})
    with pytest.raises(MediaError, match="no 'vid'"):
        read_lips(lips)
    with pytest.raises(MediaError, match="images of \\[48, 100\\]"):
        savemat(lips, {"vid": np.zeros((4800, 3)), "siz": [[48, 100, 3]]})
        read_lips(lips)


def test_a_damaged_or_unknown_archive_is_named(archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "avletters.npz"
    copy.write_bytes(archive.read_bytes())
    truncated(copy)
    with pytest.raises(MediaError, match=r"avletters\.npz"):
        AVLetters().plan(tmp_path)
    np.savez_compressed(copy, **np.load(archive))
    content = bytearray(copy.read_bytes())
    content[200:2000] = bytes(1800)
    copy.write_bytes(content)
    with pytest.raises(MediaError, match=r"avletters\.npz"):
        LipsReader().read(Clip("A1_Anya", "A", {"video": copy}))
    np.savez(copy, wave=np.zeros(3))
    with pytest.raises(MediaError, match="no array 'label'"):
        AVLetters().plan(tmp_path)


def test_a_changed_archive_is_read_again(archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "avletters.npz"
    arrays = dict(np.load(archive))
    clip = Clip("A1_Anya", "A", {"audio": copy})
    np.savez(copy, **arrays)
    before = MfccReader().read(clip)
    np.savez(copy, **{**arrays, "mfcc": arrays["mfcc"] + 1})
    assert np.array_equal(MfccReader().read(clip), before + 1)


def test_a_wrong_folder_and_an_empty_letter_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected Lips/A1_Anya-lips.mat"):
        AVLetters().plan(tmp_path)
    rng = np.random.default_rng(2)
    np.savez(
        tmp_path / "avletters.npz",
        lips=rng.integers(0, 9, (2, 60, 80)),
        lips_offsets=[0, 1, 2],
        mfcc=rng.normal(size=(2, 26)),
        mfcc_offsets=[0, 1, 2],
        label=[0, 1],
        rep=[1, 1],
        speaker=["Yi", "Yi"],
    )
    with pytest.raises(DataError, match="'C', 'D', 'E' and 21 more have no sample"):
        AVLetters().plan(tmp_path)


@pytest.mark.skipif(not REAL.is_file(), reason="AVLetters is not available")
def test_real_letters_equal_the_archive() -> None:
    plan = AVLetters(pixels=60).plan(REAL)
    assert Counter(clip.split for clip in plan.clips) == {"train": 390, "val": 130, "test": 260}
    with np.load(REAL) as arrays:
        rows = (arrays["label"] == 11) & (arrays["rep"] == 2) & (arrays["speaker"] == "Kate")
        row = int(np.flatnonzero(rows)[0])
        lips = arrays["lips"][slice(*arrays["lips_offsets"][row : row + 2])]
        cepstra = arrays["mfcc"][slice(*arrays["mfcc_offsets"][row : row + 2])]
    clip = next(clip for clip in plan.clips if clip.id == "L2_Kate")
    video, audio = (plan.readers[name].read(clip) for name in ("video", "audio"))
    assert np.array_equal(video[[0, -1], 0], lips[[0, -1]])
    assert np.array_equal(audio[[0, -1]], cepstra[[0, -1]])
    every = [int(np.argmin(np.abs(cepstra - vector).sum(1))) for vector in audio]
    assert every == sorted(every)
    assert all(vector in cepstra for vector in audio)
