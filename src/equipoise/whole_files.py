"""Files written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PARTIAL: Final = ".*.part"
"""Pattern of the files that are being written, or were when their process was killed."""


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a path to write to; its file replaces `path` when the block ends without error.

    Each process has its own, so that those that write at the same time do not mix.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text so that the file is there whole or not at all, and its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")
