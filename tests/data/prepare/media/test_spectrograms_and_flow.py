"""Spectrograms against slow definitions, flow against known motion, and the readers on real files."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.signal import ShortTimeFFT

from equipoise.data.prepare.clips import Clip, ModalityReader
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.media.flow import encode_flow, method_used, optical_flow
from equipoise.data.prepare.media.spectrograms import fbank, log_stft
from equipoise.data.prepare.readers.audio_video import FbankReader, FramesReader, ImageReader, StftReader
from equipoise.data.prepare.readers.flow import FlowImagesReader, FlowReader
from equipoise.types import UsageError
from media_files import moving_square, tone, write_image, write_video, write_wav

RNG = np.random.default_rng(3)
NOISE = RNG.normal(0, 0.1, 9000).astype(np.float32)


def test_log_stft_equals_that_of_scipy() -> None:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    mirrored = np.pad(NOISE.astype(np.float64), 256, mode="reflect")
    reference = ShortTimeFFT(window, hop=353, fs=1, phase_shift=None).stft(
        mirrored, p0=1, p1=1 + 1 + (len(NOISE)) // 353
    )
    # Scipy centres frame p on sample p * hop; ours starts there in the padded wave.
    slow = np.array(
        [np.fft.rfft(mirrored[k * 353 : k * 353 + 512] * window) for k in range(1 + len(NOISE) // 353)]
    ).T
    expected = np.log(np.abs(slow) + 1e-7)
    assert np.abs(log_stft(NOISE) - expected).max() < 1e-4
    shifted = ShortTimeFFT(window, hop=1, fs=1).stft_detrend(mirrored, None, p0=256, p1=257)[:, 0]
    assert np.allclose(np.abs(shifted), np.abs(slow[:, 0]), atol=1e-9)
    assert reference.shape[0] == 257


def test_log_stft_of_three_seconds_has_the_shape_of_the_paper() -> None:
    assert log_stft(np.zeros(66150, np.float32)).shape == (257, 188)


def _slow_fbank(wave: np.ndarray, rate: int, bins: int) -> np.ndarray:
    """Kaldi's definition, sample by sample, in float64."""
    length, shift, padded = int(rate * 0.025), int(rate * 0.01), 512
    mel = lambda f: 1127 * math.log(1 + f / 700)  # noqa: E731
    low, high = mel(20), mel(rate / 2)
    width = (high - low) / (bins + 1)
    result = []
    for begin in range(0, len(wave) - length + 1, shift):
        frame = wave[begin : begin + length].astype(np.float64)
        frame = frame - frame.mean()
        emphasised = [frame[0] - 0.97 * frame[0]]
        emphasised += [frame[i] - 0.97 * frame[i - 1] for i in range(1, length)]
        hann = [0.5 - 0.5 * math.cos(2 * math.pi * i / (length - 1)) for i in range(length)]
        power = np.abs(np.fft.fft(np.array(emphasised) * hann, padded)) ** 2
        energies = []
        for b in range(bins):
            left, centre, right = low + b * width, low + (b + 1) * width, low + (b + 2) * width
            total = 0.0
            for k in range(padded // 2):
                m = mel(k * rate / padded)
                if left < m <= centre:
                    total += power[k] * (m - left) / (centre - left)
                elif centre < m < right:
                    total += power[k] * (right - m) / (right - centre)
            energies.append(math.log(max(total, np.finfo(np.float32).eps)))
        result.append(energies)
    return np.array(result)


def test_fbank_equals_the_definition() -> None:
    wave = NOISE[:1600]
    assert np.abs(fbank(wave, bins=40) - _slow_fbank(wave, 16000, 40)).max() < 1e-4


def test_a_tone_peaks_in_its_bin() -> None:
    energies = fbank(tone(1000, 16000), bins=64)
    low, high = 1127 * math.log(1 + 20 / 700), 1127 * math.log(1 + 8000 / 700)
    bin_of_tone = (1127 * math.log(1 + 1000 / 700) - low) / ((high - low) / 65) - 1
    assert np.abs(energies.argmax(axis=1) - bin_of_tone).max() < 1


def _texture(size: int = 96) -> np.ndarray:
    rough = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(size, size)), 2, mode="wrap")
    return 128 + rough * (50 / rough.std())


@pytest.mark.parametrize("method", ["dis", "farneback"])
@pytest.mark.parametrize(("right", "down"), [(1.5, 0.0), (-2.0, 1.0), (0.4, -3.3)])
def test_flow_of_a_known_motion(method: str, right: float, down: float) -> None:
    frames = [ndimage.shift(_texture(), (t * down, t * right), order=5, mode="grid-wrap") for t in range(3)]
    gray = np.clip(np.round(frames), 0, 255).astype(np.uint8)
    inner = optical_flow(gray, method)[:, :, 16:-16, 16:-16].mean(axis=(0, 2, 3))
    assert np.abs(inner - [right, down]).max() < 0.25


def test_flow_as_bytes() -> None:
    flow = np.array([-50, -20, -0.05, 0, 7.3, 20, 21], np.float32)
    stored = encode_flow(flow)
    assert stored.tolist()[0:2] == [0, 0]
    assert stored.tolist()[-2:] == [255, 255]
    assert np.abs(stored * (40 / 255) - 20 - np.clip(flow, -20, 20)).max() <= 20 / 255 + 1e-6


def _read(reader: ModalityReader, **files: Path) -> np.ndarray:
    values = reader.read(Clip("x", "a", files))
    assert values.shape == reader.layout.shape
    assert values.dtype == reader.layout.dtype
    assert np.array_equal(values, reader.read(Clip("x", "a", files)))
    return values


def test_readers_of_sound(tmp_path: Path) -> None:
    wave = RNG.normal(0, 3000, 22050).astype(np.int16)
    file = write_wav(tmp_path / "a.wav", wave, 22050)
    expected = log_stft(np.tile(wave / np.float32(32768), 3)[:66150])
    assert np.abs(_read(StftReader(), audio=file)[0] - expected).max() < 0.008
    wave = RNG.normal(0, 3000, 16000).astype(np.int16)
    file = write_wav(tmp_path / "b.wav", wave, 16000)
    whole = _read(FbankReader(frames=120, bins=32), audio=file)
    mean, scale = -4.503877, 2 * 5.141276
    assert np.allclose(whole[0, :, 98:], -mean / scale, atol=1e-3)
    heard = wave / np.float32(32768)
    expected = (fbank(heard - heard.mean(), bins=32).T - mean) / scale
    assert np.abs(whole[0, :, :98] - expected).max() < 2e-3


def test_readers_of_pictures(tmp_path: Path) -> None:
    frames = moving_square(9)
    clip = write_video(tmp_path / "v.avi", frames, 10)
    squares = np.moveaxis(frames[:, :, 8:56], -1, 1)
    assert np.array_equal(_read(FramesReader(count=3, size=48), video=clip), squares[[1, 4, 7]])
    assert np.array_equal(
        _read(ImageReader(size=48), image=write_image(tmp_path / "i.png", frames[2])), squares[2]
    )


def test_flow_of_a_clip_is_computed_from_neighbouring_frames(tmp_path: Path) -> None:
    texture = _texture()
    frames = [np.roll(texture, 2 * t, axis=1).astype(np.uint8) for t in range(9)]
    clip = write_video(tmp_path / "v.avi", np.stack([frames] * 3, axis=-1), 10)
    stored = _read(FlowReader(count=2, stack=3, size=96, method="dis"), video=clip)
    motion = (stored * (40 / 255) - 20)[:, :, 16:-16, 16:-16].mean(axis=(2, 3))
    assert np.abs(motion - [2, 0, 2, 0, 2, 0]).max() < 0.25
    with pytest.raises(MediaError, match="9 frames, but flow needs 11"):
        FlowReader(stack=10).read(Clip("x", "a", {"video": clip}))


def test_the_record_names_the_method() -> None:
    assert FlowReader().describe()["method"] == method_used()
    assert method_used() in ("tvl1", "dis")
    assert FlowReader(method="farneback").describe()["reader"] == "FlowReader"


@pytest.mark.parametrize("names", ["flow_{}_{:04d}.png", "{}_{:04d}.png", "folders"])
def test_ready_made_flow(tmp_path: Path, names: str) -> None:
    across = RNG.integers(0, 256, (4, 8, 8)).astype(np.uint8)
    down = RNG.integers(0, 256, (4, 8, 8)).astype(np.uint8)
    for t in range(4):
        for axis, other, pictures in (("x", "u", across), ("y", "v", down)):
            name = f"{other}/frame{t}.png" if names == "folders" else names.format(axis, t)
            write_image(tmp_path / "clip" / name, pictures[t])
    stored = _read(FlowImagesReader(count=3, stack=2, size=8), flow=tmp_path / "clip")
    for moment, start in enumerate([0, 1, 2]):
        expected = np.stack([across[start], down[start], across[start + 1], down[start + 1]])
        assert np.array_equal(stored[moment], expected)


@pytest.mark.parametrize("reader", [StftReader, FbankReader, FramesReader, FlowReader, ImageReader])
def test_invalid_options_are_refused(reader: type[ModalityReader]) -> None:
    option = next(name for name in ("rate", "count", "size") if hasattr(reader(), name))
    with pytest.raises(UsageError, match=f"{option} is 0"):
        reader(**{option: 0})
