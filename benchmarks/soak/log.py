"""The rows of a soak: one for each kill."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from kills import Killed

COLUMNS = (
    "part",
    "case",
    "way",
    "after",
    "running",
    "left",
    "hung",
    "equal",
    "difference",
    "python",
    "cores",
    "commit",
)


class Log:
    """The rows, written at once whenever one is added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(COLUMNS))
        self._commit = commit()

    def count(self, case: str) -> int:
        """Return how often a case has been killed."""
        return int((self.table["case"] == case).sum())

    def add(self, part: str, case: str, kill: Killed) -> None:
        """Add a kill."""
        row = {"part": part, "case": case, **asdict(kill)}
        row |= {"after": round(kill.after, 2), "left": round(kill.left, 2)}
        row |= {"python": platform.python_version(), "cores": os.cpu_count(), "commit": self._commit}
        self.table = pd.DataFrame([*self.table.to_dict("records"), row], columns=list(COLUMNS))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".part")
        self.table.to_csv(partial, index=False)
        partial.replace(self.path)


def commit() -> str:
    """Return the commit of the sources, with a plus if they were changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "src") else "")
