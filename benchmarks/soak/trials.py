"""Parts of the soak that are tests of the suite: damaged copies of files, and files that are made to do harm.

The tests leave rows in a log, see `tests/support/evidence.py`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
sys.path.append(str(SUPPORT))

from evidence import append  # noqa: E402 (of the tests)

LOGGED, COUNT, SEARCHED = "EQUIPOISE_EVIDENCE", "EQUIPOISE_MUTATIONS", "EQUIPOISE_GUIDED"
HANG = 4 * 3600.0
"""Seconds after which a test is taken to hang; each damaged copy has limits of its own."""
MUTATIONS, HOSTILE = "mutations", "hostile"
"""Markers of the tests."""
GUIDED = "guided"
"""Part in which atheris searches inputs for the readers that get damaged copies."""
OTHER_CONTENT = "test_other_content.py"
"""Tests of readers that get valid content, which is not searched."""


@dataclass(frozen=True)
class Trials:
    """A log of tests, with a row for each reader and file, or for each hostile file.

    Attributes:
        path: of the log, JSON lines.
        commit: of the sources.
    """

    path: Path
    commit: str

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows; half a line, of a process that was killed, is none."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def table(self) -> pd.DataFrame:
        """Return the last row of each test."""
        return pd.DataFrame({row["test"]: row for row in self.rows()}.values())

    def done(self, count: int) -> set[str]:
        """Return the tests whose last row has so many damaged copies, and no failure."""
        last = {row["test"]: row for row in self.rows()}
        return {test for test, row in last.items() if row.get("count", 0) >= count and not row["failed"]}

    def mutate(self, count: int) -> Iterator[str]:
        """Try so many damaged copies of each file, each reader in a fresh process; yield what is done."""
        done = self.done(count)
        for test in tests(MUTATIONS):
            if test not in done:
                yield self._run([test], test, {COUNT: str(count)})

    def guide(self, count: int) -> Iterator[str]:
        """Let atheris search so many inputs for each reader, in a fresh process; yield what is done."""
        if importlib.util.find_spec("atheris") is None:
            yield "atheris is not installed: no inputs are searched."
            return
        done = self.done(count)
        paths = os.pathsep.join(filter(None, (str(SUPPORT), os.environ.get("PYTHONPATH"))))
        for test in tests(MUTATIONS):
            if test not in done and OTHER_CONTENT not in test:
                given = {SEARCHED: str(count), "PYTHONPATH": paths}
                yield self._run(["-p", "watched_code", test], test, given)

    def harm(self) -> Iterator[str]:
        """Open every hostile file anew; the rows of earlier soaks are replaced."""
        self.path.unlink(missing_ok=True)
        yield self._run([*files(HOSTILE), "-m", HOSTILE], HOSTILE, {})

    def _run(self, words: Sequence[str], name: str, given: dict[str, str]) -> str:
        before = len(self.rows())
        ended = pytest_ended(words, {**given, LOGGED: str(self.path.absolute())})
        failed = any(row["failed"] for row in self.rows()[before:])
        if ended.returncode and not failed:  # it ended without a row
            said = (ended.stdout + ended.stderr).strip()[-500:]
            machine = {"python": platform.python_version(), "cores": os.cpu_count(), "commit": self.commit}
            row = {"test": name, "failed": f"ended with code {ended.returncode}: {said}", **machine}
            append(self.path, row)
        return f"{name}: {'failed' if ended.returncode else 'as it should be'}"


def files(marker: str) -> list[str]:
    """Return the files of tests with a marker."""
    found = sorted((ROOT / "tests").rglob("test_*.py"))
    return [
        str(p.relative_to(ROOT)) for p in found if f"pytest.mark.{marker}" in p.read_text(encoding="utf-8")
    ]


def tests(marker: str) -> list[str]:
    """Return the names of the tests with a marker."""
    listed = pytest_ended([*files(marker), "--collect-only", "-m", marker], {})
    if listed.returncode:
        raise RuntimeError(f"the tests cannot be listed: {listed.stdout[-2000:]}")
    return [line for line in listed.stdout.splitlines() if "::" in line]


def pytest_ended(words: Sequence[str], given: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Return how pytest ended in a fresh process; 124 stands for a hang."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    environment = {**os.environ, **given}
    try:
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=HANG
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, f"no end after {HANG:.0f} s", "")
