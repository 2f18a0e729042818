"""The input of a preparation: samples as files, and a reader for each modality."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from equipoise.data.format.modality import Layout
from equipoise.data.prepare.media.files import MediaError
from equipoise.types import UsageError

UNLABELLED: Final = ""
"""The label of a sample that is not labelled."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One sample, before it is read.

    Attributes:
        id: unique name.
        label: name of its class, or its value if the target is numeric; `UNLABELLED` if unknown.
        files: role (`"audio"`, `"video"`, ...) to file or folder.
        split: `"train"`, `"val"`, `"test"`, or None if the dataset has no fixed splits.
        group: speaker, video, ... that must stay in one split, or None.
        start: second of the files at which the sample begins.
        seconds: its length; None reads to the end.
    """

    id: str
    label: str | float
    files: Mapping[str, Path]
    split: str | None = None
    group: str | None = None
    start: float = 0.0
    seconds: float | None = None


class ModalityReader(ABC):
    """Reads one modality of a clip.

    Subclasses are frozen dataclasses. Their fields determine the values completely; they are sent to worker
    processes and stored in the record of the preparation. Decoders (`av`, `soundfile`, `PIL`, `cv2`) are
    imported in `read`.
    """

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """The array that `read` returns."""

    @abstractmethod
    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the modality of a clip, `[*layout.shape]` of `layout.dtype`.

        The result depends only on the files of the clip and on the fields: equal files give equal bytes, in
        any process and order.

        Raises:
            MediaError: a file is missing, damaged or of another kind.
        """

    def describe(self) -> dict[str, Any]:
        """Return the name of the reader and its fields as plain values."""
        return {"reader": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]

    def check_positive(self, *names: str) -> None:
        """Raise UsageError if a field is not above 0."""
        for name in names:
            value = getattr(self, name)
            if not (min(value) if isinstance(value, tuple) else value) > 0:
                raise UsageError(f"{name} is {value}; expected a number above 0.")


@dataclass(frozen=True, slots=True)
class Lost:
    """A sample that could not be prepared.

    Attributes:
        id: of the sample.
        file: the file with the problem.
        reason: a key of `equipoise.data.prepare.media.files.REASONS`.
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
        """Describe a clip that could not be read."""
        return cls(clip.id, error.file, error.reason, str(error), clip.split, clip.label)


@dataclass(frozen=True)
class Preparation:
    """The complete input of `prepare` for a dataset made from files.

    Attributes:
        name: of the dataset.
        clips: the samples, in the order in which they are stored. Missing files are found and counted when
            the clips are read.
        readers: modality to reader, in order.
        classes: class names in order, among them all labels; None if the target is numeric.
        licence: terms of use.
        source: where the data come from.
        facts: everything else that determines the dataset, as plain values: options, fingerprints of lists,
            actors shared by splits.
        notes: lines shown to the user.
        labelled: whether the samples have labels; else the target of the dataset is 0 for all.
        made_by: name and options of the dataset, for the record; they determine no more than `facts`.
    """

    name: str
    clips: Sequence[Clip]
    readers: Mapping[str, ModalityReader]
    classes: tuple[str, ...] | None
    licence: str = ""
    source: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    labelled: bool = True
    made_by: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ArrayPreparation:
    """A dataset that exists as arrays and needs no decoding.

    Attributes:
        name: of the dataset.
        arguments: of `write_dataset`: `inputs`, `target`, `split`, `group`, `ids`, `classes`, ...
        lost: samples of the source that are not used, and why.
        facts: see `Preparation`; also counts, for example of values that were not finite.
        notes: see `Preparation`.
        made_by: see `Preparation`.
    """

    name: str
    arguments: Mapping[str, Any]
    lost: Sequence[Lost] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    made_by: Mapping[str, Any] = field(default_factory=dict)
