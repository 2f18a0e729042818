"""Readers of AVLetters: cepstra in HTK files, lips in MATLAB files, or both in one NumPy archive."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.modality import Layout
from equipoise.data.prepare.clips import Clip, ModalityReader
from equipoise.data.prepare.media.archives import read_arrays
from equipoise.data.prepare.media.files import MediaError, check_media, decoding
from equipoise.data.prepare.media.images import block_means, block_side
from equipoise.data.prepare.media.matlab import read_matrices
from equipoise.data.prepare.media.video import spread
from equipoise.types import UsageError

HEIGHT, WIDTH, COEFFICIENTS = 60, 80, 26
_HTK_COMPRESSED: Final = 0o2000
_HTK_HEADER: Final = struct.Struct(">iihh")
_EXPECTED: Final = "the archive of AVLetters"


@dataclass(frozen=True)
class MfccReader(ModalityReader):
    """Unchanged cepstra of a sample at evenly spaced moments.

    Attributes:
        steps: number of moments `T`.
        image: return them as an image, for convolutions.
    """

    steps: int = 24
    image: bool = False

    def __post_init__(self) -> None:
        self.check_positive("steps")

    @property
    def layout(self) -> Layout:
        """`[T, 26]`, or as an image `[1, 26, T]`."""
        if self.image:
            return Layout((1, COEFFICIENTS, self.steps), "float32", "image", content="spectrogram")
        return Layout((self.steps, COEFFICIENTS), "float32", "sequence")

    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the cepstra."""
        file = clip.files["audio"]
        whole = _from_archive(file, "mfcc", clip.id) if file.suffix == ".npz" else read_htk(file)
        if whole.shape[1] != COEFFICIENTS:
            raise MediaError(
                file,
                "wrong-format",
                f"has vectors of {whole.shape[1]} numbers",
                f"expected the {COEFFICIENTS} cepstra of AVLetters",
            )
        taken = whole[spread(len(whole), self.steps)].astype(np.float32)
        return taken.T[None] if self.image else taken


@dataclass(frozen=True)
class LipsReader(ModalityReader):
    """Grey images of lips at evenly spaced moments.

    Attributes:
        count: number of images `T`.
        height: of an image; below 60, blocks of pixels are averaged and rounded.
    """

    count: int = 12
    height: int = 15

    def __post_init__(self) -> None:
        block_side(self.height, (HEIGHT, WIDTH))
        if self.count < 1:
            raise UsageError(f"frames is {self.count}; expected at least 1.")

    @property
    def layout(self) -> Layout:
        """`[T, 1, height, 4 / 3 height]`."""
        shape = (self.count, 1, self.height, self.height * WIDTH // HEIGHT)
        return Layout(shape, "uint8", "video", content="frames")

    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the images."""
        file = clip.files["video"]
        whole = _from_archive(file, "lips", clip.id) if file.suffix == ".npz" else read_lips(file)
        taken = whole[spread(len(whole), self.count)]
        means = block_means(taken, block_side(self.height, (HEIGHT, WIDTH)))
        images: NDArray[np.uint8] = np.round(means).astype(np.uint8)
        return images[:, None]


def read_htk(path: Path) -> NDArray[np.float32]:
    """Read vectors `[T, d]` in the format of HTK (the HTK book, section 5.10).

    A big-endian header of 12 bytes (number of vectors, their distance in 100 ns, bytes of a vector, kind) is
    followed by 32-bit floats.

    Raises:
        MediaError: the file is missing, empty, truncated, compressed, or of another format.
    """
    check_media(path)
    content = path.read_bytes()
    if len(content) < _HTK_HEADER.size:
        raise MediaError(path, "truncated", "ends within its header")
    count, period, width, kind = _HTK_HEADER.unpack_from(content)
    if count < 1 or period < 1 or width < 4 or width % 4:
        raise MediaError(path, "wrong-format", "has no HTK header", "give the *.mfcc files of AVLetters")
    if kind & _HTK_COMPRESSED:
        raise MediaError(path, "wrong-format", "is compressed", "write it again with HCopy without _C")
    promised = _HTK_HEADER.size + count * width
    if len(content) != promised:
        reason = "truncated" if len(content) < promised else "wrong-format"
        raise MediaError(path, reason, f"has {len(content)} bytes, but its header says {promised}")
    values = np.frombuffer(content, ">f4", offset=_HTK_HEADER.size).astype(np.float32)
    return values.reshape(count, width // 4)


def read_lips(path: Path) -> NDArray[np.uint8]:
    """Read images `[T, 60, 80]` from `vid` `[4800, T]` of a MATLAB file, stored by columns of pixels.

    Raises:
        MediaError: the file is missing, empty, truncated, or has no such images.
    """
    check_media(path)
    with decoding(path, "is not a readable MATLAB file"):
        return _lips(path, read_matrices(path, ("vid", "siz")))


def _lips(path: Path, content: Mapping[str, Any]) -> NDArray[np.uint8]:
    video = content.get("vid")
    if video is None or video.ndim != 2 or video.shape[0] != HEIGHT * WIDTH or not video.shape[1]:
        found = "no 'vid'" if video is None else f"'vid' {list(video.shape)}"
        raise MediaError(
            path, "wrong-format", f"has {found}", f"expected 'vid' [{HEIGHT * WIDTH}, frames] of AVLetters"
        )
    size = [int(number) for number in np.ravel(content.get("siz", (HEIGHT, WIDTH)))[:2]]
    if size != [HEIGHT, WIDTH]:
        raise MediaError(
            path, "wrong-format", f"has images of {size}", f"expected 'siz' {HEIGHT} {WIDTH} frames"
        )
    pixels = np.round(np.clip(video, np.float32(0), np.float32(255))).astype(np.uint8)
    return np.ascontiguousarray(pixels.reshape(HEIGHT, WIDTH, -1, order="F").transpose(2, 0, 1))


def archive_names(path: Path) -> tuple[str, ...]:
    """Return the names `A1_Anya` of the samples in an archive, in order.

    The archive holds the concatenated `lips` `[frames, 60, 80]` and `mfcc` `[steps, 26]` of all samples, with
    `lips_offsets` and `mfcc_offsets` `[N + 1]`, `label` 0 to 25, `rep` 1 to 3 and `speaker`.

    Raises:
        MediaError: the file is missing, damaged or holds other arrays.
    """
    check_media(path)
    arrays = read_arrays(path, ("label", "rep", "speaker"), _EXPECTED)
    with decoding(path, "cannot be read"):
        return _sample_names(path, *arrays.values())


def _sample_names(
    path: Path, label: NDArray[Any], repetition: NDArray[Any], speaker: NDArray[Any]
) -> tuple[str, ...]:
    if len(label) and not (
        0 <= label.min() <= label.max() < 26 and 1 <= repetition.min() <= repetition.max() <= 3
    ):
        raise MediaError(
            path, "wrong-format", "has invalid labels or repetitions", "expected 0 to 25, and 1 to 3"
        )
    return tuple(
        f"{ascii_uppercase[int(letter)]}{int(time)}_{who}"
        for letter, time, who in zip(label, repetition, speaker, strict=True)
    )


def _from_archive(path: Path, name: str, sample: str) -> NDArray[Any]:
    """Return the part of an array that belongs to a sample."""
    check_media(path)
    stamp = path.stat().st_mtime_ns
    rows, flat, offsets = _opened(path, name, stamp)
    row = rows[sample]
    with decoding(path, "cannot be read"):
        part: NDArray[Any] = flat[offsets[row] : offsets[row + 1]]
        return part


@lru_cache(maxsize=2)
def _opened(
    path: Path,
    name: str,
    stamp: int,  # noqa: ARG001 (part of the cache key)
) -> tuple[dict[str, int], NDArray[Any], NDArray[Any]]:
    """Read an array of an archive once in each process; `stamp` is the modification time."""
    rows = {sample: row for row, sample in enumerate(archive_names(path))}
    flat, offsets = read_arrays(path, (name, f"{name}_offsets"), _EXPECTED).values()
    return rows, flat, offsets
