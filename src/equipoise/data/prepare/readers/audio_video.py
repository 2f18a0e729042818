"""Readers of spectrograms, frames and images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.modality import Layout
from equipoise.data.prepare.clips import Clip, ModalityReader
from equipoise.data.prepare.media.audio import read_audio
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.media.images import Size, read_image, sides
from equipoise.data.prepare.media.video import Pick, read_frames
from equipoise.types import check_known


@dataclass(frozen=True)
class StftReader(ModalityReader):
    """Log-magnitude spectrogram of the first seconds (recipe `ogm`; Peng et al., CVPR 2022).

    Short sound is repeated, long sound is cut, and samples are clipped to [-1, 1]. Stored as float16, with an
    error of at most 2^-8 for logarithms below -8, and half of that above.

    Attributes:
        role: file of the clip.
        rate: sampling rate in Hz.
        seconds: length of the sound.
        n_fft: samples of a frame.
        hop: samples between frames.
    """

    role: str = "audio"
    rate: int = 22050
    seconds: float = 3.0
    n_fft: int = 512
    hop: int = 353

    def __post_init__(self) -> None:
        self.check_positive("rate", "seconds", "n_fft", "hop")

    @property
    def layout(self) -> Layout:
        """`[1, frequencies, frames]`."""
        frames = 1 + round(self.seconds * self.rate) // self.hop
        return Layout((1, self.n_fft // 2 + 1, frames), "float16", "image", content="spectrogram")

    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the spectrogram."""
        from equipoise.data.prepare.media.spectrograms import log_stft

        wave = read_audio(clip.files[self.role], self.rate, start=clip.start, seconds=clip.seconds)
        long = np.resize(wave, round(self.seconds * self.rate))  # repeats a short wave
        return log_stft(np.clip(long, -1, 1), self.n_fft, self.hop)[None].astype(np.float16)


@dataclass(frozen=True)
class FbankReader(ModalityReader):
    """Log mel filterbank energies, the input of the Audio Spectrogram Transformer (Gong et al., 2021).

    The mean of the wave is subtracted. The energies are padded with zeros or cut to `frames`, and then become
    `(x - mean) / scale`, in the order of the published code.

    Attributes:
        role: file of the clip.
        rate: sampling rate in Hz.
        bins: number of mel bins.
        frames: length in steps of 10 ms.
        mean: subtracted from the energies.
        scale: divisor of the result.
    """

    role: str = "audio"
    rate: int = 16000
    bins: int = 128
    frames: int = 1024
    mean: float = -4.503877
    scale: float = 2 * 5.141276

    def __post_init__(self) -> None:
        self.check_positive("rate", "bins", "frames", "scale")

    @property
    def layout(self) -> Layout:
        """`[1, bins, frames]`."""
        return Layout((1, self.bins, self.frames), "float16", "image", "none", "spectrogram")

    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the energies."""
        from equipoise.data.prepare.media.spectrograms import fbank

        file = clip.files[self.role]
        wave = read_audio(file, self.rate, start=clip.start, seconds=clip.seconds)
        if len(wave) < self.rate // 40:
            raise MediaError(file, "truncated", f"has only {len(wave)} samples of sound")
        energies = fbank(wave - wave.mean(), self.rate, self.bins)[: self.frames]
        whole = np.zeros((self.frames, self.bins), np.float32)
        whole[: len(energies)] = energies
        return ((whole.T[None] - self.mean) / self.scale).astype(np.float16)


@dataclass(frozen=True)
class FramesReader(ModalityReader):
    """RGB frames of a video or of a folder of images; see `read_frames`.

    Attributes:
        role: file of the clip.
        count: number of frames.
        size: side of a frame in pixels, or height and width.
        pick: `even` or `second`.
    """

    role: str = "video"
    count: int = 3
    size: Size = 224
    pick: Pick = "even"

    def __post_init__(self) -> None:
        self.check_positive("count", "size")
        check_known("way to pick frames", [self.pick], ("even", "second"))

    @property
    def layout(self) -> Layout:
        """`[count, 3, height, width]`."""
        return Layout((self.count, 3, *sides(self.size)), "uint8", "video", content="frames")

    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the frames."""
        return read_frames(
            clip.files[self.role],
            self.count,
            self.size,
            pick=self.pick,
            start=clip.start,
            seconds=clip.seconds,
        )


@dataclass(frozen=True)
class ImageReader(ModalityReader):
    """One image; see `read_image`.

    Attributes:
        role: file of the clip.
        size: side in pixels, or height and width.
    """

    role: str = "image"
    size: Size = 224

    def __post_init__(self) -> None:
        self.check_positive("size")

    @property
    def layout(self) -> Layout:
        """`[3, height, width]`."""
        return Layout((3, *sides(self.size)), "uint8", "image", content="frames")

    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the image."""
        return read_image(clip.files[self.role], self.size)
