"""FSDD + MNIST: spoken and written digits, paired by label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.format.folder import SPLIT_NAMES
from equipoise.data.prepare.clips import ArrayPreparation
from equipoise.data.prepare.finding import check_source, find_file
from equipoise.data.prepare.lists import draw_groups
from equipoise.data.prepare.media.archives import read_archive, read_idx
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.media.spectrograms import fbank
from equipoise.data.prepare.media.video import spread
from equipoise.randomness import derive_seed
from equipoise.types import DataError, UsageError

ARCHIVE: Final = "fsdd.npz"
IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
RATE: Final = 8000
DIGITS: Final = tuple(map(str, range(10)))
SHORTEST: Final = RATE // 40
"""Samples of one frame of a spectrogram."""
TEST, VAL = range(5), range(5, 10)
"""Recordings of each digit and speaker for the test, as published, and for validation."""


@dataclass(frozen=True, kw_only=True)
class FSDDMNIST(SourceDataset):
    """FSDD + MNIST: 3000 pairs of a spoken digit and an image of the same digit; six speakers.

    Attributes:
        bins: mel bins of the spectrogram.
        steps: moments of the spectrogram, evenly spaced from the begin of the wave to its end.
        split: `speaker` holds out speakers: one for test, one for validation; `recording` is the published
            split of FSDD: recordings 0 to 4 of each digit and speaker for test, and here 5 to 9 for
            validation.
        split_seed: of the draw of speakers, and of the division of the images among the splits.
        pair_seed: of the draw of an image for each spoken digit.
    """

    name = "fsdd-mnist"
    description = "spoken and written digits, paired by label: spectrogram and image, 3000 pairs, 10 classes"
    modalities = ("audio", "image")
    licence = "CC BY-SA 4.0 (FSDD), CC BY-SA 3.0 (MNIST)"
    source = "https://github.com/Jakobovski/free-spoken-digit-dataset"
    citation = (
        "Jackson et al., Free Spoken Digit Dataset, 2018; LeCun, Bottou, Bengio, Haffner, Gradient-Based "
        "Learning Applied to Document Recognition, Proceedings of the IEEE 86(11), 1998"
    )
    bibtex = ("jackson2018fsdd", "lecun1998gradient")
    expected = f"{ARCHIVE}, {IMAGES} and {LABELS}"
    size = "17 MB"
    extra = None

    bins: int = 40
    steps: int = 48
    split: Literal["speaker", "recording"] = "speaker"
    split_seed: int = 0
    pair_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.bins <= 64:
            raise UsageError(
                f"bins is {self.bins}; expected 1 to 64, which frames of 25 ms at 8 kHz resolve."
            )

    def plan(self, source: Path) -> ArrayPreparation:
        """Read and pair waves and images; see `SourceDataset.plan`."""
        path = find_file(source, ARCHIVE, self.expected)
        check_source(path.parent, [IMAGES, LABELS], self.expected)
        waves = _waves(path)
        images = read_idx(path.parent / IMAGES, ("N", 28, 28))
        digits = read_idx(path.parent / LABELS, (len(images),))
        split = self._splits(waves["speaker"], waves["index"])
        paired = self._paired(waves["label"], split, digits)
        bounds = zip(waves["offsets"], waves["offsets"][1:], strict=False)
        sounds = [self._spectrogram(waves["wave"][first:last]) for first, last in bounds]
        names = zip(*(waves[name].tolist() for name in ("label", "speaker", "index")), strict=True)
        speakers = waves["speaker"].tolist()
        same = "train and test have the same speakers, as published; --split speaker separates them."
        return ArrayPreparation(
            name=self.name,
            arguments={
                "inputs": {"audio": np.stack(sounds), "image": images[paired][:, None]},
                "contents": {"audio": "spectrogram"},
                "normalize": {"audio": "clip"},
                "target": waves["label"].astype(np.int64),
                "classes": DIGITS,
                "split": split,
                "group": speakers if self.split == "speaker" else None,
                "ids": ["_".join(map(str, parts)) for parts in names],
                "licence": self.licence,
                "source": self.origin,
            },
            facts={"speakers": sorted(set(speakers)), "images": len(images), **self.options()},
            notes=(same,) if self.split == "recording" else (),
        )

    def _splits(self, speaker: NDArray[np.str_], recording: NDArray[Any]) -> NDArray[np.str_]:
        if self.split == "speaker":
            drawn = draw_groups(speaker.tolist(), self.split_seed, self.name)
            return np.array([drawn[name] for name in speaker.tolist()])
        held_out = np.where(np.isin(recording, VAL), "val", "train")
        return np.where(np.isin(recording, TEST), "test", held_out)

    def _paired(
        self, label: NDArray[Any], split: NDArray[np.str_], digits: NDArray[np.uint8]
    ) -> NDArray[np.int64]:
        """Return the row of an image for each wave; no image is taken twice.

        The images of a digit are first divided among the splits in proportion to the waves, independent of
        `pair_seed`: no draw brings an image of the training split into the test.
        """
        paired = np.empty(len(label), dtype=np.int64)
        for digit in range(len(DIGITS)):
            pool, waves = np.flatnonzero(digits == digit), np.flatnonzero(label == digit)
            if len(pool) < len(waves):
                raise DataError(
                    f"there are {len(waves)} spoken and {len(pool)} written digits {digit}; expected an "
                    "image for each wave: use the complete files."
                )
            pool = np.random.default_rng(derive_seed(self.split_seed, self.name, digit)).permutation(pool)
            first = 0
            for name in SPLIT_NAMES:
                own = waves[split[waves] == name]
                part = pool[first : first + len(pool) * len(own) // max(len(waves), 1)]
                rng = np.random.default_rng(derive_seed(self.pair_seed, self.name, digit, name))
                paired[own] = rng.permutation(part)[: len(own)]
                first += len(part)
        return paired

    def _spectrogram(self, wave: NDArray[np.int16]) -> NDArray[np.float16]:
        """Return log mel energies `[1, bins, steps]` at evenly spaced moments of the wave."""
        sound = wave.astype(np.float32) / 2**15
        energies = fbank(sound - sound.mean(), RATE, self.bins)
        return energies[spread(len(energies), self.steps)].T[None].astype(np.float16)


def _waves(path: Path) -> dict[str, NDArray[Any]]:
    """Read the archive of FSDD, or raise MediaError."""
    expected = "the archive of FSDD"
    columns = dict.fromkeys(("label", "speaker", "index"), ("N",))
    arrays = read_archive(path, {**columns, "offsets": ("N + 1",), "wave": ("S",), "sr": ()}, expected)
    lengths = np.diff(arrays["offsets"])
    if (
        len(lengths) != len(arrays["label"])
        or arrays["offsets"][0]
        or arrays["offsets"][-1] != len(arrays["wave"])
    ):
        found = f"has offsets of {len(lengths)} waves that do not divide its {len(arrays['wave'])} samples"
        raise MediaError(
            path, "wrong-format", found, f"expected {len(arrays['label'])} waves, as {expected} has"
        )
    if lengths.min() < SHORTEST or int(arrays["sr"]) != RATE:
        found = f"has waves from {lengths.min()} samples at {arrays['sr']} Hz"
        raise MediaError(path, "wrong-format", found, f"expected at least {SHORTEST} at {RATE} Hz")
    if not np.isin(arrays["label"], range(10)).all():
        raise MediaError(path, "wrong-format", "has labels that are no digits", "expected 0 to 9")
    return arrays
