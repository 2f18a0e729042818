"""How sound and pictures of clips become arrays: the recipes that papers on audio and video share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from equipoise.data.prepare.clips import ModalityReader
from equipoise.data.prepare.media.readers import FbankReader, FramesReader, StftReader
from equipoise.data.prepare.media.video import Pick
from equipoise.types import UsageError

Recipe = Literal["fbank", "stft"]
Media = Literal["auto", "clips", "frames"]


def clip_readers(recipe: Recipe, count: int, size: int, pick: Pick) -> dict[str, ModalityReader]:
    """Return the readers of clips of ten seconds.

    Args:
        recipe: `"fbank"` for 128 mel bins x 1024 steps of 10 ms with the mean and scale of the Audio
            Spectrogram Transformer (Gong et al., Interspeech 2021), `"stft"` for log magnitudes of 10 s at
            16 kHz, 257 frequencies x 454 frames.
        count: frames of a clip.
        size: side of a frame in pixels.
        pick: how they are chosen.

    Raises:
        UsageError: an option has no such value.
    """
    check_choice("recipe", recipe, ("fbank", "stft"))
    audio = FbankReader() if recipe == "fbank" else StftReader(rate=16000, seconds=10.0)
    return {"audio": audio, "video": FramesReader(count=count, size=size, pick=pick)}


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Raise UsageError where an option is none of its choices."""
    if value not in choices:
        raise UsageError(f"{option} is {value!r}; expected {' or '.join(map(repr, choices))}.")
