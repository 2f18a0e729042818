"""Read sound as one channel at a given sampling rate."""

from __future__ import annotations

import math
import os
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.prepare.media.containers import opened, pyav, seconds_missing
from equipoise.data.prepare.media.files import SOUND_FORMATS, MediaError, check_format, check_media, decoding
from equipoise.files.extras import needing
from equipoise.files.untrusted import first_line

Wave = NDArray[np.float32]
RATES = 1_000, 1_000_000
"""Sampling rates that a sound may have, in Hz: resampling from any other takes all memory."""
_PART = 2**20


def read_audio(path: Path, rate: int, *, start: float = 0.0, seconds: float | None = None) -> Wave:
    """Read `seconds` of sound from second `start`, or to the end, at `rate` samples per second.

    WAV, FLAC and Ogg are read by libsndfile, all others (including the sound of a video) by FFmpeg. Channels
    are averaged. Resampling uses a polyphase filter (`scipy.signal.resample_poly`), which gives the same bits
    on every machine.

    Returns:
        `[n]`, in [-1, 1] except for overshoots of the filter.

    Raises:
        MediaError: the file is missing, empty, truncated, of another format than its name says, or has no
            sound after `start`.
        MissingExtraError: soundfile or av is not installed.
    """
    check_media(path)
    with decoding(path):
        read = _by_libsndfile if check_format(path) in SOUND_FORMATS else _by_ffmpeg
        wave, found = read(path, start, seconds)
    low, high = RATES
    if not low <= found <= high:
        what = f"says that it has {found} samples per second"
        raise MediaError(path, "unreadable", what, f"expected {low} to {high}: download it again")
    if not len(wave):
        raise MediaError(
            path, "truncated", f"has no sound after second {start:g}", "check its length and the list"
        )
    if found == rate:
        return wave
    from scipy.signal import resample_poly

    shared = math.gcd(found, rate)
    changed: Wave = resample_poly(wave.astype(np.float64), rate // shared, found // shared).astype("f4")
    return changed


def _by_libsndfile(path: Path, start: float, seconds: float | None) -> tuple[Wave, int]:
    with needing("soundfile", "media", "reading sound"):
        import soundfile
    with _Stream(FileIO(path)) as stream:
        try:
            with soundfile.SoundFile(stream) as sound:
                rate = int(sound.samplerate)
                first = min(round(start * rate), sound.frames)
                sound.seek(first)
                wanted = sound.frames - first if seconds is None else round(seconds * rate)
                promised = min(wanted, sound.frames - first)
                wave = _parts(sound, promised)
        except soundfile.LibsndfileError as error:
            raise MediaError(path, "unreadable", f"cannot be decoded ({first_line(error)})") from error
    if len(wave) < promised:
        raise MediaError(path, "truncated", f"ends after {len(wave)} of {promised} samples")
    return wave, rate


class _Stream(BufferedReader):
    """A file in which a decoder may look for places that do not exist: libsndfile would print the error."""

    def seek(self, place: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place, or stay where there is none such."""
        try:
            return super().seek(place, whence)
        except (OSError, OverflowError):
            return -1


def _parts(sound: Any, most: int) -> Wave:
    """Read at most `most` samples and average the channels; memory is that of samples which are there."""
    parts: list[Wave] = []
    while most > 0:
        values: NDArray[np.float32] = sound.read(min(most, _PART), dtype="float32", always_2d=True)
        if not len(values):
            break
        parts.append(values.mean(axis=1, dtype=np.float32))
        most -= len(values)
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _by_ffmpeg(path: Path, start: float, seconds: float | None) -> tuple[Wave, int]:
    with opened(path) as container:
        if not container.streams.audio:
            raise MediaError(
                path, "no-audio", "has no sound", "remove it from the list, or download it with sound"
            )
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        rate = int(stream.rate)
        last = math.inf if seconds is None else round((start + seconds) * rate)
        wave = _decoded(container, stream, last)
        missing = seconds_missing(container, stream, len(wave) / rate) if len(wave) < last else 0.0
    if missing:
        raise MediaError(path, "truncated", f"lacks the last {missing:.1f} seconds of its sound")
    return wave[round(start * rate) : None if seconds is None else int(last)], rate


def _decoded(container: Any, stream: Any, most: float) -> Wave:
    """Decode at least `most` samples if there are so many, and average the channels."""
    planar = pyav().AudioResampler(format="fltp")
    pieces: list[Wave] = []
    count = 0
    for frame in container.decode(stream):
        for part in planar.resample(frame):
            piece = part.to_ndarray().mean(axis=0, dtype=np.float32)
            pieces.append(piece)
            count += len(piece)
        if count >= most:
            break
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
