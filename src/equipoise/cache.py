"""The user's cache folder, and the record of where named datasets were prepared on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from filelock import FileLock
from platformdirs import user_cache_dir

from equipoise.files.untrusted import read_json
from equipoise.files.whole import write_atomically
from equipoise.types import RunFolderError

CACHE_VARIABLE: Final = "EQUIPOISE_CACHE"
PREPARED: Final = "prepared.json"
DESCRIPTION_FILE: Final = "dataset.json"
"""What every folder of a prepared dataset holds."""


def cache_folder() -> Path:
    """Return the cache folder, which may not exist yet: `EQUIPOISE_CACHE`, or the user's."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("equipoise"))


def remember(name: str, path: Path) -> None:
    """Record that the dataset `name` was prepared in `path`; this replaces an earlier record."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{PREPARED}.lock"):
        write_atomically(cache / PREPARED, json.dumps(_read(cache) | {name: str(path)}, indent=2) + "\n")


def place_of(name: str) -> Path | None:
    """Return the folder in which a dataset was last prepared, if it still exists."""
    place = _read(cache_folder()).get(name)
    found = Path(place) if place else None
    return found if found is not None and (found / DESCRIPTION_FILE).is_file() else None


def _read(cache: Path) -> dict[str, str]:
    try:
        read = read_json(cache / PREPARED, RunFolderError)
    except (OSError, RunFolderError):
        return {}
    return {str(name): str(place) for name, place in read.items()}
