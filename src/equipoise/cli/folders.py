"""Output folders that are free."""

from __future__ import annotations

from itertools import count
from pathlib import Path


def free_folder(name: str, *, reuse: bool = False, parent: Path = Path("runs")) -> Path:
    """Return `runs/name`, or `runs/name-2` and so on where that is taken and must not be reused."""
    candidates = (parent / (name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(path for path in candidates if reuse or not path.exists())
