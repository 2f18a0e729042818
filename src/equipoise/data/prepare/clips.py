"""What is to be prepared: samples as files, and how each modality is read out of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.prepare.media.errors import MediaError


@dataclass(frozen=True, slots=True)
class Clip:
    """One sample, before it is read.

    Attributes:
        id: unique name.
        label: name of its class, or its value where the target is a number.
        files: role (`"audio"`, `"video"`, ...) to the file or folder that is read for it.
        split: `"train"`, `"val"`, `"test"`, or None where the dataset prescribes none.
        group: what a split must not tear apart, or None.
        start: second of the files at which the sample begins.
        seconds: its length; None goes to the end.
    """

    id: str
    label: str | float
    files: Mapping[str, Path]
    split: str | None = None
    group: str | None = None
    start: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """What a modality looks like once it is prepared; see `ModalitySpec`.

    Attributes:
        shape: of one sample.
        dtype: NumPy name of the stored type.
        kind: `"vector"`, `"tokens"`, `"sequence"`, `"image"` or `"video"`.
        normalize: `"standard"` or `"none"`.
        content: `"frames"`, `"spectrogram"`, `"flow"` or None.
    """

    shape: tuple[int, ...]
    dtype: str
    kind: str
    normalize: str = "standard"
    content: str | None = None


class ModalityReader(ABC):
    """Reads one modality of a clip.

    Subclasses are frozen dataclasses whose fields are everything that decides the values, so that they go to
    worker processes and into the record of the preparation as they are. What they import to decode (`av`,
    `soundfile`, `PIL`, `cv2`) they import in `read`.
    """

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """What `read` returns."""

    @abstractmethod
    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the modality of a clip, `[*layout.shape]` of `layout.dtype`.

        It depends on the files of the clip and on the fields alone: equal files give equal bytes, in any
        process and order.

        Raises:
            MediaError: a file is missing, damaged or not what it should be.
        """

    def describe(self) -> dict[str, Any]:
        """Return the name of the reader and its fields as plain values."""
        return {"reader": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class Lost:
    """A sample that could not be prepared.

    Attributes:
        id: of the sample.
        file: what is wrong.
        reason: a key of `equipoise.data.prepare.media.errors.REASONS`.
        message: one line with file and remedy.
        split: of the sample, or None.
        label: of the sample.
    """

    id: str
    file: str
    reason: str
    message: str
    split: str | None = None
    label: str | float | None = None

    @classmethod
    def of(cls, clip: Clip, error: MediaError) -> Lost:
        """Describe a clip whose reading failed."""
        return cls(clip.id, error.file, error.reason, str(error), clip.split, clip.label)


@dataclass(frozen=True)
class Preparation:
    """Everything that `prepare` needs to know about a dataset made of files.

    Attributes:
        name: of the dataset.
        clips: the samples, in the order in which they are stored. Files that are not there are found when
            they are read, and counted.
        readers: modality to reader, in order.
        classes: names of the classes in order; labels are among them. None where the target is a number.
        licence: terms of use.
        source: where the data come from.
        facts: what else decides the dataset, as plain values: options, fingerprints of lists, the overlap of
            actors between splits.
        notes: lines that whoever prepares the dataset should read.
    """

    name: str
    clips: Sequence[Clip]
    readers: Mapping[str, ModalityReader]
    classes: tuple[str, ...] | None
    licence: str = ""
    source: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArrayPreparation:
    """A dataset that comes as arrays and needs no decoding.

    Attributes:
        name: of the dataset.
        arguments: of `write_dataset`: `inputs`, `target`, `split`, `group`, `ids`, `classes`, ...
        lost: samples of the source that are left out, and why.
        facts: see `Preparation`; here also what was counted, such as values that were not finite.
        notes: see `Preparation`.
    """

    name: str
    arguments: Mapping[str, Any]
    lost: Sequence[Lost] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def stored(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Return values as they are stored, after a check that a reader has kept its word."""
    assert values.shape == layout.shape, f"a reader gave {values.shape}, its layout says {layout.shape}"
    return np.ascontiguousarray(values, dtype=np.dtype(layout.dtype).newbyteorder("<"))
