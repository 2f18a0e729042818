"""AVLetters: spoken letters, as sound and lips."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final, Literal

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.prepare.clips import Clip, Preparation
from equipoise.data.prepare.finding import check_source, files_by_name
from equipoise.data.prepare.lists import check_classes, draw_groups
from equipoise.data.prepare.readers.avletters import LipsReader, MfccReader, archive_names
from equipoise.types import PathError

ARCHIVE: Final = "avletters.npz"
REPETITIONS: Final = (1, 2, 3)
_NAME: Final = re.compile(r"([A-Z])([1-3])_(.+)")
_LIPS: Final = "Lips"
_SOUNDS: Final = "Audio/mfcc/Clean"


@dataclass(frozen=True, kw_only=True)
class AVLetters(SourceDataset):
    """AVLetters: ten speakers say each letter A to Z three times; 780 samples, 26 classes.

    Attributes:
        frames: number of images of the lips, evenly spaced.
        pixels: height of an image; 60 is the original size (60 x 80), and 30, 15, 12, 6 and 3 average blocks.
            15 costs a sixteenth of 60 in training.
        steps: number of vectors of 26 mel-frequency cepstral coefficients, evenly spaced.
        audio: `sequence` for [steps, 26], `image` for [1, 26, steps].
        split: `repetition` uses every third repetition for test and half of the second ones for validation;
            `speaker` holds out speakers: 20 % for test, 10 % for validation.
        split_seed: of the draw of speakers.
    """

    name = "avletters"
    description = "AVLetters: spoken letters, MFCCs and lips, 780 samples, 26 classes"
    modalities = ("audio", "video")
    licence = "research use; cite Matthews et al. 2002"
    source = "http://www.ee.surrey.ac.uk/Projects/LILiR/datasets/avletters1/index.html"
    citation = (
        "Matthews et al., Extraction of Visual Features for Lipreading, IEEE Transactions on Pattern "
        "Analysis and Machine Intelligence 24(2), 2002"
    )
    bibtex = ("matthews2002extraction",)
    expected = "Lips/A1_Anya-lips.mat and Audio/mfcc/Clean/A1_Anya-lips.mfcc, or one archive avletters.npz"
    size = "about 100 MB"
    extra = None

    frames: int = 12
    pixels: int = 15
    steps: int = 24
    audio: Literal["sequence", "image"] = "sequence"
    split: Literal["repetition", "speaker"] = "repetition"
    split_seed: int = 0

    def plan(self, source: Path) -> Preparation:
        """List the samples; see `SourceDataset.plan`."""
        readers = {
            "audio": MfccReader(steps=self.steps, image=self.audio == "image"),
            "video": LipsReader(count=self.frames, height=self.pixels),
        }
        layout, files = _files(source)
        parts = {name: _parts(name) for name in files}
        check_classes(ascii_uppercase, [letter for letter, _, _ in parts.values()], str(source))
        split = self._splits(parts)
        clips = [
            Clip(
                id=name,
                label=letter,
                files=files[name],
                split=split[name],
                group=speaker if self.split == "speaker" else None,
            )
            for name, (letter, _, speaker) in sorted(parts.items())
        ]
        speakers = sorted({speaker for _, _, speaker in parts.values()})
        facts: dict[str, Any] = {"layout": layout, "split": self.split, "speakers": speakers}
        if self.split == "speaker":
            facts["split_seed"] = self.split_seed
        return self.preparation(clips, readers, tuple(ascii_uppercase), facts, self._notes(len(clips)))

    def _splits(self, parts: Mapping[str, tuple[str, int, str]]) -> dict[str, str]:
        """Return the split of each sample.

        By repetition, half of the second ones are for validation, so that each letter and each speaker is in
        all three splits.
        """
        speakers = sorted({speaker for _, _, speaker in parts.values()})
        if self.split == "speaker":
            drawn = draw_groups(speakers, self.split_seed, "avletters")
            return {name: drawn[speaker] for name, (_, _, speaker) in parts.items()}
        split = {}
        for name, (letter, repetition, speaker) in parts.items():
            even = (ascii_uppercase.index(letter) + speakers.index(speaker)) % 2 == 0
            split[name] = "test" if repetition == 3 else "val" if repetition == 2 and even else "train"
        return split

    def _notes(self, count: int) -> list[str]:
        notes = []
        if self.split == "repetition":
            notes.append(
                "train and test have the same ten speakers, as in the published protocol; --split "
                "speaker separates them."
            )
        if count != 780:
            notes.append(f"{count} of the 780 samples of AVLetters are listed.")
        return notes


def _files(source: Path) -> tuple[str, dict[str, dict[str, Path]]]:
    """Return the layout, and the files of each sample."""
    archive = source if source.suffix == ".npz" else source / ARCHIVE
    if archive.is_file():
        return "archive", {name: {"audio": archive, "video": archive} for name in archive_names(archive)}
    check_source(source, [_LIPS, _SOUNDS], AVLetters.expected)
    lips = files_by_name(source / _LIPS, (".mat",), _sample_name)
    sounds = files_by_name(source / _SOUNDS, (".mfcc",), _sample_name)
    if not lips and not sounds:
        raise PathError(
            f"{source / _LIPS} holds no file named like A1_Anya-lips.mat; expected {AVLetters.expected}."
        )
    # Every speaker says every letter three times: other files are missing.
    speakers = sorted({_parts(name)[2] for name in lips.keys() | sounds.keys()})
    names = [
        f"{letter}{repetition}_{speaker}"
        for letter, repetition, speaker in product(ascii_uppercase, REPETITIONS, speakers)
    ]
    return "official", {
        name: {
            "audio": sounds.get(name, source / _SOUNDS / f"{name}-lips.mfcc"),
            "video": lips.get(name, source / _LIPS / f"{name}-lips.mat"),
        }
        for name in names
    }


def _sample_name(text: str) -> str | None:
    name = text.removesuffix("-lips")
    return name if _NAME.fullmatch(name) else None


def _parts(name: str) -> tuple[str, int, str]:
    """Return letter, repetition and speaker."""
    match = _NAME.fullmatch(name)
    assert match is not None
    return match[1], int(match[2]), match[3]
