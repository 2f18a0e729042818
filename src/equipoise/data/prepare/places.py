"""A record of where named datasets were prepared on this machine."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

from filelock import FileLock

from equipoise.data.format.folder import DESCRIPTION_FILE, cache_folder

FILE = "prepared.json"


def remember(name: str, path: Path) -> None:
    """Record that the dataset `name` was prepared in `path`; this replaces an earlier record."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{FILE}.lock"):
        fresh = cache / f"{FILE}.{uuid.uuid4().hex}"
        fresh.write_text(json.dumps(_read(cache) | {name: str(path)}, indent=2) + "\n", encoding="utf-8")
        os.replace(fresh, cache / FILE)  # noqa: PTH105 - replaces a file on every system


def place_of(name: str) -> Path | None:
    """Return the folder in which a dataset was last prepared, if it still exists."""
    place = _read(cache_folder()).get(name)
    found = Path(place) if place else None
    return found if found is not None and (found / DESCRIPTION_FILE).is_file() else None


def _read(cache: Path) -> dict[str, str]:
    try:
        read = json.loads((cache / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(place) for name, place in read.items()} if isinstance(read, dict) else {}
