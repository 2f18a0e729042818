"""The user's cache folder, and the record of where named datasets were prepared on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from filelock import FileLock
from platformdirs import user_cache_dir

from equipoise.files.limits import check_machine
from equipoise.files.untrusted import first_line, read_json
from equipoise.files.whole import room_for, write_atomically
from equipoise.types import NoSpaceError, RunFolderError, warn

CACHE_VARIABLE: Final = "EQUIPOISE_CACHE"
PREPARED: Final = "prepared.json"
DESCRIPTION_FILE: Final = "dataset.json"
"""What every folder of a prepared dataset holds."""


def cache_folder() -> Path:
    """Return the cache folder, which may not exist yet: `EQUIPOISE_CACHE`, or the user's."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("equipoise"))


def remember(name: str, path: Path) -> None:
    """Record that the dataset `name` was prepared in `path`; this replaces an earlier record.

    Where the cache cannot be written, a warning says so: the dataset itself is whole.
    """
    cache = cache_folder()
    try:
        with room_for(cache / PREPARED):
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / f"{PREPARED}.lock"):
                held = _read(cache) | {name: str(path)}
                write_atomically(cache / PREPARED, json.dumps(held, indent=2) + "\n")
    except (OSError, NoSpaceError) as error:
        check_machine(error)
        warn(
            f"{path} is whole, but cannot be found by the name {name!r}, as {cache / PREPARED} cannot be "
            f"written ({first_line(error).rstrip('.')}); name the folder instead (--data {path}), or another "
            f"cache in {CACHE_VARIABLE}."
        )


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
