"""An interrupted command: one line, no process left behind, and the work can be resumed."""

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

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

COMPARE = "compare --methods joint --seeds 2 --workers 2"
TUNE = "tune --methods joint multi-loss --trials 4 --workers 2"
DEVICES = "train --method joint --device cpu --devices 2"
BEGUN = {
    COMPARE: "out/runs/joint-seed0/checkpoint.pt",
    TUNE: "out/trials/*/metrics.jsonl",
    DEVICES: "out/checkpoint.pt",
}
KEPT = BEGUN | {TUNE: "out/trials.db"}
"""What is left to resume from: a trial that was ended is repeated."""
SECONDS = 10
"""Within which no process is left."""


def begun(tmp_path: Path, command: str) -> subprocess.Popen[str]:
    """Start a command, and wait until it has written a checkpoint."""
    data = synthetic.write(tmp_path / "data").path
    words = [*command.split(), "--data", str(data), "--epochs", "100000", "--out", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "equipoise", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(tmp_path.glob(BEGUN[command])):
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"nothing was written: {process.communicate()}")
        time.sleep(0.1)
    return process


def none_left(process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + SECONDS
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive(process.pid) == []


@pytest.mark.parametrize(
    ("command", "number", "alone"),
    [
        pytest.param(COMPARE, signal.SIGINT, False, marks=pytest.mark.matrix),
        (COMPARE, signal.SIGTERM, True),
        pytest.param(TUNE, signal.SIGTERM, True, marks=pytest.mark.matrix),
        pytest.param(DEVICES, signal.SIGTERM, True, marks=pytest.mark.matrix),
    ],
)
def test_an_interrupted_command_ends_in_one_line(
    tmp_path: Path, command: str, number: signal.Signals, alone: bool
) -> None:
    """Ctrl-C reaches all processes of a terminal, SIGTERM of a scheduler perhaps only the command."""
    process = begun(tmp_path, command)
    if alone:
        process.send_signal(number)
    else:
        os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "equipoise: interrupted; continue with --resume." in err
    assert "Traceback" not in err
    assert list(tmp_path.glob(KEPT[command]))
    none_left(process)


@pytest.mark.parametrize(
    "command", [DEVICES, *(pytest.param(c, marks=pytest.mark.matrix) for c in (COMPARE, TUNE))]
)
def test_no_process_outlives_a_command_that_was_killed(tmp_path: Path, command: str) -> None:
    process = begun(tmp_path, command)
    assert len(alive(process.pid)) > 2
    process.kill()
    process.wait()
    none_left(process)
    process.communicate()
