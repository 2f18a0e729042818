"""What stands in the folder of a prepared dataset, and how it is named and fingerprinted."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_dir

from equipoise.data.format.content import digest
from equipoise.tasks import TASKS as TASK_KINDS
from equipoise.types import DataError

FORMAT = "equipoise-dataset"
FORMAT_VERSION = 1
DESCRIPTION_FILE = "dataset.json"
INDEX_FILE = "index.csv"
PREPARATION_FILE = "preparation.json"
"""How a dataset was made of files, where it was: readers, options, losses, versions."""
CACHE_VARIABLE = "EQUIPOISE_CACHE"
TASKS = tuple(TASK_KINDS)
SPLIT_NAMES = ("train", "val", "test")
KIND_AXES = {
    "vector": ("d",),
    "tokens": ("T",),
    "sequence": ("T", "d"),
    "image": ("C", "H", "W"),
    "video": ("T", "C", "H", "W"),
}
"""Kind of a modality to the axes of one sample; of several kinds with as many axes, the first is assumed."""
NORMALIZATIONS = ("standard", "none")
CONTENTS = ("frames", "spectrogram", "flow")
"""What the numbers of an image or video may be, where that decides how they can be augmented."""


@dataclass(frozen=True, slots=True)
class ModalitySpec:
    """What one modality of a prepared dataset looks like.

    Attributes:
        name: as the user wrote it.
        shape: of one sample, without the batch axis.
        dtype: NumPy name of the stored type.
        kind: `"vector"` [d], `"tokens"` [T] (whole numbers, 0 where a text has ended), `"sequence"` [T, d],
            `"image"` [C, H, W] or `"video"` [T, C, H, W].
        normalize: `"standard"` (by statistics of the train split) or `"none"`.
        file: name of the array file in the dataset's folder.
        content: `"frames"`, `"spectrogram"` (an image [C, frequency, time]) or `"flow"` (horizontal and
            vertical motion in turn along the channels, 0 or, as uint8, 127.5 for none), or None where nobody
            has said it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str
    normalize: str
    file: str
    content: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain values; what nobody has said is left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @property
    def row_bytes(self) -> int:
        """Bytes that one stored sample takes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def read_description(path: Path) -> dict[str, Any]:
    """Read `dataset.json` in the folder `path` and check that it describes a dataset of a known version.

    Raises:
        DataError: it is missing, damaged, or written by a newer version of the format.
    """
    file = path / DESCRIPTION_FILE
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise DataError(
            f"{path} {found}; expected the folder of a dataset written by equipoise.write_dataset."
        )
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path} is no prepared dataset: it has no {DESCRIPTION_FILE}; make one with "
            "equipoise.write_dataset."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error}); write the dataset again.") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise DataError(f"{file} does not describe a dataset of Equipoise (no format {FORMAT!r}).")
    version = described.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise DataError(
            f"{file} has the format version {version!r}, expected {FORMAT_VERSION}; write it again."
        )
    if version > FORMAT_VERSION:
        raise DataError(
            f"{file} has format version {version}, this Equipoise reads up to {FORMAT_VERSION}; upgrade "
            "equipoise."
        )
    return described


def dataset_fingerprint(
    specs: Mapping[str, ModalitySpec],
    classes: tuple[str, ...],
    columns: Mapping[str, NDArray[Any] | None],
    hashes: Mapping[str, NDArray[np.str_]],
) -> str:
    """Hash what a dataset holds.

    Args:
        specs: modality to description.
        classes: class names.
        columns: `id`, `target`, `split` and `group`, each `[N]` or None.
        hashes: modality to content hashes `[N]`.
    """
    named = {name: None if column is None else column.tolist() for name, column in columns.items()}
    contents = [(name, hashes[name].tolist()) for name in specs]
    return digest([spec.to_dict() for spec in specs.values()], list(classes), named, contents)


def slug(name: str) -> str:
    """Turn any name into lower-case ASCII letters, digits and hyphens; two names may give one slug."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain)[:40].strip("-") or "unnamed"


def cache_folder() -> Path:
    """Return the folder that keeps built datasets; it may not exist yet."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("equipoise"))


def array_file(number: int, modality: str) -> str:
    """Name the array file of a modality; `number` is its place among the modalities."""
    # The number keeps files apart whose names look alike once they are safe for a file system.
    return f"{number:02d}_{slug(modality)}.npy"


def listed(names: list[str], limit: int = 3) -> str:
    """Quote the first `limit` names and count the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(str(name)) for name in names[:limit]) + more


def hash_column(spec: ModalitySpec) -> str:
    """Name the column of `index.csv` that holds the content hashes of a modality."""
    return f"hash_{spec.file.removesuffix('.npy')}"
