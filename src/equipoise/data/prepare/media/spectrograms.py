"""The spectrograms of published recipes."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from equipoise.data.prepare.media.audio import Wave
from equipoise.types import DataError

FLOOR = 1e-7
LOWEST = 20.0
"""Lower end of the triangles of a filterbank in Hz, as in Kaldi."""


def log_stft(wave: Wave, n_fft: int = 512, hop: int = 353) -> NDArray[np.float32]:
    """Return `log(|STFT| + 1e-7)`, the input of OGM-GE's audio encoder (Peng et al., CVPR 2022).

    Frames of `n_fft` samples are centred on the multiples of `hop`, with a periodic Hann window. The ends are
    mirrored, the default of librosa when the recipe was published (since version 0.10 it pads with zeros).

    Returns:
        `[n_fft // 2 + 1, 1 + n // hop]` of a wave `[n]`.

    Raises:
        DataError: the wave is too short to be mirrored.
    """
    if len(wave) <= n_fft // 2:
        raise DataError(f"a wave of {len(wave)} samples is too short for frames of {n_fft}; give more sound.")
    spectrum = torch.stft(
        torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32)),
        n_fft,
        hop_length=hop,
        window=torch.hann_window(n_fft),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    logarithm: NDArray[np.float32] = torch.log(spectrum.abs() + FLOOR).numpy()
    return logarithm


def fbank(
    wave: Wave,
    rate: int = 16000,
    bins: int = 128,
) -> NDArray[np.float32]:
    """Return log mel filterbank energies as Kaldi computes them, without dither, with a Hann window.

    Frames of 25 ms begin every 10 ms. The mean of each frame is subtracted and the frame is pre-emphasised
    with 0.97. Its power spectrum is weighted by `bins` triangles from 20 Hz to half the rate, equally spaced
    on the scale `1127 ln(1 + f / 700)`. Incomplete frames at the end are not used.

    Returns:
        `[frames, bins]` of a wave `[n]` with `rate` samples per second.

    Raises:
        DataError: the wave is shorter than one frame.
    """
    length, shift = rate * 25 // 1000, rate * 10 // 1000
    if len(wave) < length:
        raise DataError(
            f"a wave of {len(wave)} samples is shorter than a frame of {length}; give more sound."
        )
    padded = 1 << (length - 1).bit_length()
    frames = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32)).unfold(0, length, shift)
    frames = frames - frames.mean(dim=1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    frames = (frames - 0.97 * before) * torch.hann_window(length, periodic=False)
    power = torch.fft.rfft(frames, n=padded).abs().square()[:, : padded // 2]
    energies = power @ _triangles(bins, padded, rate).T
    logarithm: NDArray[np.float32] = energies.clamp_min(torch.finfo(torch.float32).eps).log().numpy()
    return logarithm


@lru_cache(maxsize=8)
def _triangles(bins: int, padded: int, rate: int) -> torch.Tensor:
    """Return the weights `[bins, padded // 2]` of the frequencies below half the rate."""
    low, high = _mel(LOWEST), _mel(rate / 2)
    edges = low + (high - low) / (bins + 1) * np.arange(bins + 2)
    frequency = np.array([_mel(rate / padded * place) for place in range(padded // 2)])
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequency - left) / (centre - left), (right - frequency) / (right - centre)
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))


def _mel(frequency: float) -> float:
    return 1127 * math.log(1 + frequency / 700)
