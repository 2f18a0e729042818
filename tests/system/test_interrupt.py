"""Ctrl-C: one line, exit code 130, no process left behind, and the work can be resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import synthetic
from processes import alive


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_an_interrupted_comparison_ends_in_one_line(tmp_path: Path) -> None:
    data = synthetic.write(tmp_path / "data").path
    words = ["compare", "--data", str(data), "--methods", "joint", "--seeds", "2", "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "equipoise", *words, "--epochs", "100000", "--out", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    begun = tmp_path / "out" / "runs" / "joint-seed0" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not begun.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "equipoise: interrupted; continue with --resume." in err
    assert "Traceback" not in err
    assert begun.exists()
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive(process.pid) == []
