"""The folder of a prepared dataset: file names and the description file."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equipoise.cache import DESCRIPTION_FILE
from equipoise.tasks import TASKS as TASK_KINDS
from equipoise.types import DataError

FORMAT = "equipoise-dataset"
FORMAT_VERSION = 1
INDEX_FILE = "index.csv"
PREPARATION_FILE = "preparation.json"
"""How a dataset was made from files, if it was: readers, options, lost samples, versions."""
TASKS = tuple(TASK_KINDS)
SPLIT_NAMES = ("train", "val", "test")


def read_description(path: Path) -> dict[str, Any]:
    """Read `dataset.json` in the folder `path` and check that it describes a dataset of a known version.

    Raises:
        DataError: it is missing, damaged, or written by a newer version of the format.
    """
    file = path / DESCRIPTION_FILE
    check_folder(path, "the folder of a dataset written by equipoise.write_dataset")
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path} is no prepared dataset: it has no {DESCRIPTION_FILE}; create one with "
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


def check_folder(path: Path, expected: str) -> None:
    """Raise DataError unless `path` is a folder; `expected` completes the message."""
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise DataError(f"{path} {found}; expected {expected}.")


def slug(name: str) -> str:
    """Turn any name into lower-case ASCII letters, digits and hyphens; two names may give one slug."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain)[:40].strip("-") or "unnamed"


def array_file(number: int, modality: str) -> str:
    """Return the array file of a modality; `number` is its position among the modalities."""
    # Two names may have the same slug; the number keeps their files apart.
    return f"{number:02d}_{slug(modality)}.npy"


def listed(names: Sequence[object], limit: int = 3) -> str:
    """Quote the first `limit` names for a message, and count the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(str(name)) for name in names[:limit]) + more
