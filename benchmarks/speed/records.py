"""The records of a measurement: a file for each line, with machine, versions and date."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("equipoise", "torch", "numpy", "scikit-learn", "faiss-cpu")


@dataclass(frozen=True)
class Place:
    """Where is measured, and what: the lines of one place share a section of the page.

    Attributes:
        machine: processor and cores, and a GPU if there is one.
        versions: of Python and packages.
        commit: of the code; with a plus where files differ from it.
    """

    machine: str
    versions: str
    commit: str

    @classmethod
    def here(cls) -> Place:
        """Return this machine, and what is installed."""
        import torch

        gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
        numbers = {"Python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
        return cls(
            f"{_processor()}, {os.cpu_count()} cores{gpu}",
            ", ".join(f"{name} {number}" for name, number in numbers.items() if number),
            _git("describe", "--always", "--dirty=+"),
        )

    @property
    def heading(self) -> str:
        """The title of its section."""
        return f"{self.machine}: {self.versions}"


class Records:
    """The records of the lines measured at a place, in a folder of their own."""

    def __init__(self, root: Path, place: Place) -> None:
        self.place = place
        self.folder = root / blake2b(place.heading.encode(), digest_size=4).hexdigest()

    def has(self, letter: str) -> bool:
        """Whether a line is measured with the present code."""
        path = self._path(letter)
        return path.is_file() and bool(self._read(path)["commit"] == self.place.commit)

    def write(self, letter: str, found: dict[str, Any]) -> None:
        """Write the record of a line, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        record = {**vars(self.place), "system": platform.platform(), "date": date, **found}
        partial = self._path(letter).with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        partial.replace(self._path(letter))

    def lines(self) -> dict[str, dict[str, Any]]:
        """Return the records by letter."""
        return {path.stem: self._read(path) for path in sorted(self.folder.glob("*.json"))}

    def _path(self, letter: str) -> Path:
        return self.folder / f"{letter}.json"

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return record


def _git(*words: str) -> str:
    found = subprocess.run(
        ["git", *words], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    return found.stdout.strip()


def _processor() -> str:
    found = Path("/proc/cpuinfo")
    if found.is_file():
        for line in found.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
