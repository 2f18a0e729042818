"""Rows that tests leave for the page on reliability: lines of JSON in the file that the environment names.

`EQUIPOISE_EVIDENCE=FILE.jsonl` asks for them; without it nothing is written.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLE = "EQUIPOISE_EVIDENCE"


def add_row(**row: Any) -> None:
    """Add a row, with the test that it comes from, the machine and the commit."""
    if not (named := os.environ.get(VARIABLE)):
        return
    test = os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)")
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "commit": commit()}
    append(Path(named), {"test": test, **row, **machine})


def append(file: Path, row: Mapping[str, Any]) -> None:
    """Add a line to a log; half a line, of a process that was killed, stays a line of its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as stream:
        whole = not stream.tell() or (stream.seek(-1, os.SEEK_END), stream.read(1))[1] == b"\n"
        stream.write((b"" if whole else b"\n") + json.dumps(row).encode() + b"\n")


@functools.cache
def commit() -> str:
    """Return the commit of the sources, with a plus if they were changed since."""

    def git(*words: str) -> str:
        given = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "check": True}
        return subprocess.run(["git", *words], **given).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "../../src") else "")
