"""Damaged files of every kind that is read are refused with a typed error, in little time and memory."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from equipoise.data.prepare.media.archives import read_archive, read_idx
from equipoise.data.prepare.media.audio import read_audio
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.media.images import read_image
from equipoise.data.prepare.media.video import frame_size, read_frames
from equipoise.data.prepare.readers.avletters import archive_names, read_htk, read_lips
from equipoise.data.prepare.readers.table import array_in
from equipoise.data.prepare.readers.table_file import read_table
from equipoise.data.prepare.sentiment.csd import open_csd
from equipoise.data.prepare.sentiment.utterances import read_folds
from media_files import moving_square, tone, write_image, write_video, write_wav
from mutations import mutated, refuses_all

SPLICED = b"'\"\n,;\t\x00{[(\xff\xfe=-1e999"
ARRAY = np.arange(24.0).reshape(2, 3, 4)


def idx(path: Path) -> Path:
    path.write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 2, 4, 4) + bytes(range(32))))
    return path


def letters(path: Path) -> Path:
    np.savez_compressed(path, label=[0, 1, 2], rep=[1, 2, 3], speaker=["Anya", "Bill", "Faye"])
    return path


def lips(path: Path) -> Path:
    from scipy.io import savemat

    savemat(path, {"vid": np.ones((4800, 3)), "siz": [60, 80, 3]}, do_compression=True)
    return path


def mapped_and_read(path: Path) -> None:
    np.asarray(array_in(path)).sum()
    np.asarray(array_in(path, mapped=True)).sum()


def saved(path: Path) -> Path:
    np.save(path, ARRAY)
    return path


def archived(path: Path) -> Path:
    np.savez_compressed(path, label=np.arange(4), audio=np.ones((4, 3), np.float32), id=["a", "b", "c", "d"])
    return path


def table(path: Path) -> Path:
    path.write_text('id,label,text\na,1,"hello, there"\nb,2,bye\nc,3,"x ""y"" z"\n', encoding="utf-8")
    return path


def folds(path: Path) -> Path:
    path.write_text("video_id,fold\nv1,train\nv2,valid\nv3,test\n", encoding="utf-8")
    return path


def parquet(path: Path) -> Path:
    pytest.importorskip("pyarrow")
    pd.DataFrame({"id": list("abc"), "x": [1.0, 2.0, 3.0], "label": [1, 2, 3]}).to_parquet(path)
    return path


def parquet_of_lists(path: Path) -> Path:
    pytest.importorskip("pyarrow")
    pd.DataFrame({"id": list("abc"), "x": [[1.0, 2.0]] * 3, "label": [1, 2, 3]}).to_parquet(path)
    return path


READERS: list[tuple[str, Callable[[Path], Path], Callable[[Path], Any]]] = [
    ("a.npy", saved, mapped_and_read),
    (
        "a.npz",
        archived,
        lambda path: read_archive(path, {"label": ("N",), "audio": ("N", "d"), "id": ("N",)}, "an archive"),
    ),
    ("letters.npz", letters, archive_names),
    ("lips.mat", lips, read_lips),
    ("a.gz", idx, lambda path: read_idx(path, ("N", 4, 4))),
    ("a.csv", table, read_table),
    ("folds.csv", folds, read_folds),
    ("a.parquet", parquet, lambda path: read_table(path).to_numpy().tolist()),
    ("lists.parquet", parquet_of_lists, lambda path: read_table(path).to_numpy().tolist()),
]

WHAT = {
    **dict.fromkeys(("a.npy", "a.npz"), "array"),
    **dict.fromkeys(("letters.npz", "lips.mat"), "AVLetters"),
    **dict.fromkeys(("a.csv", "a.parquet", "lists.parquet"), "table"),
    "a.gz": "MNIST",
    "folds.csv": "folds",
}


@pytest.mark.mutations
@pytest.mark.parametrize(("name", "write", "read"), READERS, ids=[name for name, *_ in READERS])
def test_a_damaged_file_of_arrays_or_cells_is_refused(
    name: str, write: Callable[[Path], Path], read: Callable[[Path], Any], tmp_path: Path
) -> None:
    few = 40 if name == "lists.parquet" else 100  # which takes a process for each
    assert refuses_all(read, write(tmp_path / name), few, reader=WHAT[name], other=SPLICED)


@pytest.mark.parametrize("seed", [3869, 4099, 7052])
def test_what_ends_the_process_in_scipy_is_refused(seed: int, tmp_path: Path) -> None:
    path = lips(tmp_path / "lips.mat")
    path.write_bytes(mutated(path.read_bytes(), seed, SPLICED))
    with pytest.raises(MediaError, match="is not a readable MATLAB file"):
        read_lips(path)


def htk(path: Path) -> Path:
    path.write_bytes(struct.pack(">iihh", 3, 100_000, 8, 6) + np.ones((3, 2), ">f4").tobytes())
    return path


@pytest.mark.mutations
def test_a_damaged_file_of_cepstra_is_refused(tmp_path: Path) -> None:
    assert refuses_all(read_htk, htk(tmp_path / "a.mfcc"), reader="AVLetters")


def csd(path: Path, compression: str | None) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for video in ("a", "b"):
            group = file.create_group(f"COVAREP/data/{video}")
            group.create_dataset("features", data=np.ones((6, 2), np.float32), compression=compression)
            group.create_dataset("intervals", data=np.ones((6, 2)), compression=compression)
    return path


def whole_csd(path: Path) -> None:
    with open_csd(path) as sequence:
        for video in sequence.videos:
            assert "x" not in sequence
            sequence.read(video)


@pytest.mark.mutations
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_damaged_computational_sequence_is_refused(compression: str | None, tmp_path: Path) -> None:
    assert refuses_all(
        whole_csd,
        csd(tmp_path / "a.csd", compression),
        reader=f"computational sequence, {compression or 'plain'}",
    )


@pytest.mark.mutations
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif", "a.webp", "a.tiff", "a.ppm"])
def test_a_damaged_image_is_refused(name: str, tmp_path: Path) -> None:
    pixels = moving_square(1, 24, 32)[0]
    file = write_image(tmp_path / name, pixels)
    assert refuses_all(lambda path: read_image(path, 16), file, reader="image")


@pytest.mark.mutations
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_a_damaged_sound_is_refused(name: str, tmp_path: Path) -> None:
    file = write_wav(tmp_path / name, tone(440, 8000, 0.1), 8000)
    assert refuses_all(lambda path: read_audio(path, 4000), file, reader="sound")


@pytest.mark.mutations
@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.mkv", "a.flv"])
def test_a_damaged_video_is_refused(name: str, tmp_path: Path) -> None:
    rate = 44_100 if name == "a.flv" else 8000  # FLV has few rates
    file = write_video(tmp_path / name, moving_square(6, 16, 16), wave=tone(440, rate, 0.24), rate=rate)

    def read(path: Path) -> None:
        frame_size(path)
        read_frames(path, 2, 8)
        read_frames(path, 2, 8, pick="second")
        read_audio(path, 4000)

    assert refuses_all(read, file, 60, reader="video")
