"""Spoken and written digits from an archive of waves and the IDX files of MNIST."""

from __future__ import annotations

import gzip
import struct
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.data.datasets.fsdd_mnist import ARCHIVE, FSDDMNIST, IMAGES, LABELS
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.media.archives import read_idx
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.media.spectrograms import fbank
from equipoise.types import DataError, PathError, UsageError

SHARED = Path(__file__).parents[4] / "shared" / "data"
SPEAKERS = ("ann", "bo", "cy", "di")
EACH = 30
"""Images of each digit."""


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write bytes by the description of the format: header, sizes, values."""
    header = struct.pack(">HBB", 0, 8, values.ndim) + b"".join(struct.pack(">I", n) for n in values.shape)
    path.write_bytes(gzip.compress(header + bytes(values.astype(np.uint8).ravel().tolist())))


def waves(recordings: int = 3, **changed: Any) -> dict[str, np.ndarray]:
    """Waves of half a second and more; the pitch tells the digit."""
    rng = np.random.default_rng(0)
    rows = list(product(range(10), SPEAKERS, range(recordings)))
    lengths = rng.integers(4000, 9000, len(rows))
    sounds = [
        np.round(8000 * np.sin(np.arange(n) * (0.1 + 0.05 * digit))).astype(np.int16)
        for (digit, _, _), n in zip(rows, lengths, strict=True)
    ]
    return {
        "wave": np.concatenate(sounds),
        "offsets": np.cumsum([0, *lengths]),
        "label": np.array([digit for digit, _, _ in rows], np.int8),
        "speaker": np.array([speaker for _, speaker, _ in rows]),
        "index": np.array([number for _, _, number in rows], np.int8),
        "sr": np.int32(8000),
    } | changed


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Images with their row in the first three pixels, in base 100."""
    folder = tmp_path / "digits"
    folder.mkdir()
    np.savez(folder / ARCHIVE, **waves())
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(10), EACH))
    images = np.random.default_rng(2).integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(len(labels)) // 100, np.arange(len(labels)) % 100
    write_idx(folder / IMAGES, images)
    write_idx(folder / LABELS, labels)
    return folder


def rows_of(images: np.ndarray) -> list[int]:
    return (images[:, 0, 0, 0].astype(int) * 100 + images[:, 0, 0, 1]).tolist()


def test_each_wave_gets_an_image_of_its_digit(source: Path, tmp_path: Path) -> None:
    dataset = prepare(FSDDMNIST().plan(source / ARCHIVE), tmp_path / "out").dataset
    assert len(dataset) == 120
    assert dataset.ids[:2].tolist() == ["0_ann_0", "0_ann_1"]
    labels = read_idx(source / LABELS, ("N",))
    paired = rows_of(dataset.array("image"))
    assert len(set(paired)) == 120
    assert labels[paired].tolist() == dataset.target.tolist() == waves()["label"].tolist()
    assert [len(set(dataset.group[dataset.split == name])) for name in ("train", "val", "test")] == [2, 1, 1]
    audio, image = dataset.modalities["audio"], dataset.modalities["image"]
    assert (audio.shape, audio.content, audio.normalize) == ((1, 40, 48), "spectrogram", "clip")
    assert (image.shape, image.content) == ((1, 28, 28), None)


def test_no_draw_of_pairs_moves_an_image_to_another_split(source: Path) -> None:
    parts: dict[int, set[str]] = {}
    drawn = []
    for seed in range(12):
        arguments = FSDDMNIST(pair_seed=seed).plan(source).arguments
        rows = rows_of(arguments["inputs"]["image"])
        drawn.append(rows)
        for row, split in zip(rows, arguments["split"].tolist(), strict=True):
            parts.setdefault(row, set()).add(split)
    assert all(len(splits) == 1 for splits in parts.values())
    assert drawn[0] != drawn[1]
    assert len(parts) > 250  # other draws use other images
    assert rows_of(FSDDMNIST(split_seed=1).plan(source).arguments["inputs"]["image"]) != drawn[0]


def test_a_spectrogram_shows_the_whole_wave_at_evenly_spaced_moments(source: Path) -> None:
    plan = FSDDMNIST(bins=32, steps=7).plan(source)
    arrays = waves()
    for row in (0, 17, 60):
        wave = arrays["wave"][arrays["offsets"][row] : arrays["offsets"][row + 1]] / 32768
        frames = fbank(wave - wave.mean(), 8000, 32)
        expected = [frames[round(part * (len(frames) - 1) / 6)] for part in range(7)]
        stored = plan.arguments["inputs"]["audio"][row, 0]
        assert stored.shape == (32, 7)
        np.testing.assert_allclose(stored.T, expected, atol=2**-7)


def test_the_published_split_is_by_recording(source: Path) -> None:
    np.savez(source / ARCHIVE, **waves(recordings=7, label=np.repeat(np.arange(10, dtype=np.int8), 28)))
    arguments = FSDDMNIST(split="recording").plan(source).arguments
    recording = [int(name.split("_")[2]) for name in arguments["ids"]]
    assert arguments["split"].tolist() == ["test" if number < 5 else "val" for number in recording]
    assert arguments["group"] is None


def test_wrong_files_are_named(source: Path) -> None:
    with pytest.raises(UsageError, match="bins is 80; expected 1 to 64"):
        FSDDMNIST(bins=80)
    for changed, message in (
        ({"offsets": np.arange(122)}, "121 waves that do not divide"),
        ({"sr": np.int32(16000)}, "at 16000 Hz; expected at least 200 at 8000 Hz"),
        ({"label": np.full(120, 11)}, "labels that are no digits"),
    ):
        np.savez(source / ARCHIVE, **waves(**changed))
        with pytest.raises(MediaError, match=message):
            FSDDMNIST().plan(source)
    np.savez(source / ARCHIVE, **waves(recordings=8, label=np.repeat(np.arange(10, dtype=np.int8), 32)))
    with pytest.raises(DataError, match="32 spoken and 30 written digits 0"):
        FSDDMNIST().plan(source)
    whole = gzip.decompress((source / IMAGES).read_bytes())
    for content, message in (
        (gzip.compress(whole[:-9]), "has 235191 values, but its header says 235200"),
        (gzip.compress(b"no images"), "has the IDX header 6e6f2069"),
        ((source / IMAGES).read_bytes()[:900], "cannot be read"),
    ):
        (source / IMAGES).write_bytes(content)
        with pytest.raises(MediaError, match=message):
            FSDDMNIST().plan(source)
    write_idx(source / IMAGES, np.zeros((299, 28, 28)))
    with pytest.raises(MediaError, match=r"labels-idx1-ubyte.gz has the shape \[300\]; expected \[299\]"):
        FSDDMNIST().plan(source)
    (source / LABELS).unlink()
    with pytest.raises(PathError, match=f"has no '{LABELS}'"):
        FSDDMNIST().plan(source)


@pytest.mark.skipif(not (SHARED / ARCHIVE).is_file(), reason="FSDD is not available")
def test_real_digits_are_in_one_split_each(tmp_path: Path) -> None:
    dataset = prepare(FSDDMNIST().plan(SHARED), tmp_path / "out").dataset
    split = dataset.split
    assert [int((split == name).sum()) for name in ("train", "val", "test")] == [2000, 500, 500]
    assert np.bincount(dataset.target[split == "test"]).tolist() == [50] * 10
    images, labels = read_idx(SHARED / IMAGES, (10000, 28, 28)), read_idx(SHARED / LABELS, (10000,))
    row_of = {image.tobytes(): row for row, image in enumerate(images)}
    rows = [row_of[image.tobytes()] for image in dataset.array("image")]
    assert len(set(rows)) == 3000
    assert np.array_equal(labels[rows], dataset.target)
