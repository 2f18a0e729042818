"""Small file systems and read-only folders, to see what a command does there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SmallDisk:
    """A disk in memory.

    Attributes:
        path: where it is mounted.
    """

    path: Path

    def leave(self, size: int) -> None:
        """Fill the disk so far that `size` bytes are left, in whole blocks."""
        self.empty()
        state = os.statvfs(self.path)
        with self._ballast.open("wb") as file:
            file.write(bytes(max(0, state.f_bavail * state.f_bsize - size)))

    def empty(self) -> None:
        """Remove what `leave` has written."""
        self._ballast.unlink(missing_ok=True)

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def files(self) -> set[str]:
        """Return the names of all files and folders but the ballast."""
        found = {str(path.relative_to(self.path)) for path in self.path.rglob("*")}
        return found - {self._ballast.name}


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[SmallDisk | None]:
    """Mount a disk of some bytes at `path` for a block; None where that is not allowed."""
    path.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield SmallDisk(path) if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(path)], check=True)


@contextmanager
def read_only(path: Path) -> Iterator[bool]:
    """Make a folder read-only for a block, also for the superuser; yield whether that is possible."""

    def mount(*words: str) -> bool:
        try:
            return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False

    bound = mount("--bind", str(path), str(path))
    try:
        yield bound and mount("-o", "remount,ro,bind", str(path))
    finally:
        if bound:
            subprocess.run(["umount", str(path)], check=True)
