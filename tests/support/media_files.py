"""Real files of sound, pictures and video for tests, written by real encoders."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.datasets.table import OwnTable
from equipoise.data.prepare.clips import ArrayPreparation, Preparation

VIDEO_CODECS = {".avi": "ffv1", ".mkv": "ffv1", ".mp4": "libx264", ".mov": "libx264", ".flv": "flv"}
AUDIO_CODECS = {".avi": "pcm_s16le", ".mkv": "pcm_s16le", ".mp4": "aac", ".m4a": "aac", ".flv": "aac"}
SOUND_TYPES = {".wav": "PCM_16", ".flac": "PCM_16", ".ogg": "VORBIS"}


def tone(frequency: float, rate: int, seconds: float = 1.0, amplitude: float = 0.5) -> NDArray[np.float32]:
    """Return a sine, `[rate * seconds]`."""
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype("f4")


def moving_square(count: int, height: int = 48, width: int = 64, step: int = 2) -> NDArray[np.uint8]:
    """Return frames `[count, height, width, 3]` that all differ: a bright square that moves to the right."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[:] = np.linspace(20, 120, width, dtype=np.uint8)[None, None, :, None] + np.uint8([0, 20, 40])
    for number, frame in enumerate(frames):
        left = (number * step) % (width - 12)
        frame[height // 3 : height // 3 + 12, left : left + 12] = (240, 200, 40)
        frame[:4] = number * 5 % 256
    return frames


def write_wav(path: Path, wave: NDArray[Any], rate: int) -> Path:
    """Write sound `[n]` or `[n, channels]` (float in [-1, 1], or int16) as `.wav`, `.flac` or `.ogg`."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        kind = path.suffix.lower()
        name = kind[1:].upper() if kind in SOUND_TYPES else "WAV"
        soundfile.write(file, wave, rate, format=name, subtype=SOUND_TYPES.get(kind, "PCM_16"))
    return path


def write_video(
    path: Path,
    frames: NDArray[np.uint8] | None,
    fps: int = 25,
    *,
    codec: str | None = None,
    wave: NDArray[Any] | None = None,
    rate: int | None = None,
    audio_codec: str | None = None,
    container: str | None = None,
) -> Path:
    """Write a clip with real encoders.

    Args:
        path: file; its ending selects container and codecs (`.avi` and `.mkv` are lossless, with FFV1).
        frames: `[T, H, W, 3]` RGB, or None for a file without pictures. Lossy codecs need even H and W.
        fps: frames a second.
        codec: another encoder, such as `"mpeg4"` in an AVI.
        wave: sound `[n]` (float in [-1, 1], or int16), or None for a file without sound.
        rate: its sampling rate.
        audio_codec: another encoder, such as `"libmp3lame"`.
        container: a container that differs from the ending, such as `"avi"`.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lower()
    with path.open("wb") as file:
        # The muxer of m4a is that of mp4; the format is passed explicitly, since a file object has no name.
        names = {".m4a": "mp4", ".mkv": "matroska"}
        with av.open(file, "w", format=container or names.get(kind, kind[1:])) as out:
            video = _video_stream(out, codec or VIDEO_CODECS.get(kind, "ffv1"), frames, fps)
            sound = _audio_stream(out, audio_codec or AUDIO_CODECS.get(kind, "aac"), wave, rate)
            if video is not None and frames is not None:
                for number, pixels in enumerate(frames):
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                    frame.pts, frame.time_base = number, Fraction(1, fps)
                    out.mux(video.encode(frame))
                out.mux(video.encode(None))
            if sound is not None and wave is not None and rate is not None:
                samples = wave if wave.dtype == np.int16 else np.round(np.clip(wave, -1, 1) * 32767)
                frame = av.AudioFrame.from_ndarray(samples.astype("i2")[None], format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
                out.mux(sound.encode(frame))
                out.mux(sound.encode(None))
    return path


def _video_stream(out: Any, codec: str, frames: NDArray[np.uint8] | None, fps: int) -> Any:
    if frames is None:
        return None
    stream = out.add_stream(codec, rate=fps)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
    stream.codec_context.thread_count = 1
    if codec == "libx264":
        stream.options = {"crf": "12", "preset": "veryfast"}
    elif codec != "ffv1":
        stream.bit_rate, stream.options = 4_000_000, {"qmin": "1", "qmax": "3"}
    return stream


def _audio_stream(out: Any, codec: str, wave: NDArray[Any] | None, rate: int | None) -> Any:
    if wave is None:
        return None
    stream = out.add_stream(codec, rate=rate)
    stream.codec_context.layout = "mono"
    if codec in ("aac", "libmp3lame"):
        stream.bit_rate = 128_000
    return stream


def write_image(path: Path, pixels: NDArray[np.uint8], **options: Any) -> Path:
    """Write `[H, W]`, `[H, W, 3]` or `[H, W, 4]` as a picture in the format of the ending.

    Keywords are passed to pillow's `save`, such as `format` if content and ending should differ.
    """
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    options.setdefault("format", {".jpg": "JPEG"}.get(path.suffix.lower(), path.suffix[1:].upper()))
    with path.open("wb") as file:
        Image.fromarray(pixels).save(file, **options)
    return path


def lfs_pointer(path: Path) -> Path:
    """Write the pointer that Git LFS leaves in place of a file that was not fetched."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 123456\n")
    return path


def truncated(path: Path, keep: float = 0.5) -> Path:
    """Truncate an existing file, like an incomplete download."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


MEDIA = ["--modalities-from", "picture=image", "sound=fbank", "--pixels", "8", "--steps", "16"]
"""Options of `equipoise prepare table` for the table that `plan_of_media` writes."""


def plan_of_media(folder: Path, count: int = 24) -> Preparation | ArrayPreparation:
    """Write pictures and sounds with a table `list.csv`, and plan to prepare them, as `MEDIA` does."""
    folder.mkdir(parents=True)
    rows = ["id,picture,sound,target"]
    for place in range(count):
        write_image(folder / f"{place}.png", np.roll(moving_square(1, 16, 16)[0], place, axis=1))
        write_wav(folder / f"{place}.wav", tone(200 + 10 * place, 8000, 0.1), 8000)
        rows.append(f"s{place},{place}.png,{place}.wav,{'ab'[place % 2]}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    table = OwnTable(modalities_from=("picture=image", "sound=fbank"), pixels=8, steps=16)
    return table.plan(folder / "list.csv")
