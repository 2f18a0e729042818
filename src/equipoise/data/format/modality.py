"""The description of one modality: shape, type, kind, normalisation and content."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from equipoise.data.format.folder import array_file

KIND_AXES = {
    "vector": ("d",),
    "tokens": ("T",),
    "sequence": ("T", "d"),
    "image": ("C", "H", "W"),
    "video": ("T", "C", "H", "W"),
}
"""Kind of a modality to the axes of one sample; the first kind with that number of axes is the default."""
NORMALIZATIONS = ("standard", "none")
CONTENTS = ("frames", "spectrogram", "flow")
"""What an image or a video may show; this decides how it can be augmented."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The array of one modality, before it has a name.

    Attributes:
        shape: of one sample, without the batch axis.
        dtype: NumPy name of the stored type.
        kind: `"vector"` [d], `"tokens"` [T] (whole numbers, 0 after the end of a text), `"sequence"` [T, d],
            `"image"` [C, H, W] or `"video"` [T, C, H, W].
        normalize: `"standard"` (by statistics of the train split) or `"none"`.
        content: `"frames"`, `"spectrogram"` (an image [C, frequency, time]), `"flow"` (channels alternate
            between horizontal and vertical motion; no motion is 0 or, as uint8, 127.5), or None where
            unknown.
    """

    shape: tuple[int, ...]
    dtype: str
    kind: str
    normalize: str = "standard"
    content: str | None = None

    @property
    def stored_type(self) -> np.dtype[Any]:
        """The type on disk: `dtype`, little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored sample."""
        return _row_bytes(self.shape, self.dtype)


@dataclass(frozen=True, slots=True)
class ModalitySpec:
    """One modality of a prepared dataset.

    Attributes:
        name: as the user wrote it.
        shape: see `Layout`, as for `dtype`, `kind`, `normalize` and `content`.
        dtype: NumPy name of the stored type.
        kind: `"vector"`, `"tokens"`, `"sequence"`, `"image"` or `"video"`.
        normalize: `"standard"` or `"none"`; always `"none"` for tokens.
        file: name of the array file in the dataset's folder.
        content: `"frames"`, `"spectrogram"`, `"flow"`, or None where unknown.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str
    normalize: str
    file: str
    content: str | None = None

    @classmethod
    def of(cls, number: int, name: str, layout: Layout) -> ModalitySpec:
        """Name a layout; `number` is the position among the modalities."""
        normalize = "none" if layout.kind == "tokens" else layout.normalize
        file = array_file(number, name)
        return cls(name, layout.shape, layout.dtype, layout.kind, normalize, file, layout.content)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, without a content that is None."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored sample."""
        return _row_bytes(self.shape, self.dtype)

    @property
    def hash_column(self) -> str:
        """Column of `index.csv` with the content hashes of this modality."""
        return f"hash_{self.file.removesuffix('.npy')}"


def _row_bytes(shape: tuple[int, ...], dtype: str) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
