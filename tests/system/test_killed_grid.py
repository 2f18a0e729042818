"""A grid that is killed at random moments, and continued, gives exactly the results of an unbroken one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import synthetic
from equipoise.cli import main
from processes import alive

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "soak"))
from kills import difference

SMALL = "--methods joint ensemble --vary lr=0.05,0.1 --epochs 9"
LARGE = (
    "--methods joint ensemble umt diagnose-relearn --vary lr=0.05,0.1 diagnose-relearn.lam=1,3 --epochs 12"
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


def start(folder: Path, words: list[str]) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own."""
    with (folder / "log.txt").open("ab") as log:
        command = [sys.executable, "-m", "equipoise", *words]
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def here(words: list[str]) -> None:
    """Run the command in this process, which has imported everything."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code


def kill_at_random(
    process: subprocess.Popen[bytes],
    out: Path,
    draw: random.Random,
    early: float,
    longest: float,
    alone: float,
) -> bool:
    """Kill a command; return whether it was still running.

    The share `early` of the moments counts from the start, the others from a change in a run's record on, up
    to the `longest` number of seconds. The share `alone` of the kills is of the command without its workers.
    """
    begun, until = time.time(), time.monotonic() + 120
    if draw.random() < early:
        time.sleep(draw.uniform(0, 12))
    else:
        while process.poll() is None and time.monotonic() < until and not changed(out, begun):
            time.sleep(0.01)
        time.sleep(draw.uniform(0, longest))
    running = process.poll() is None
    if running and draw.random() < alone:
        process.kill()  # the workers must notice
    elif running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while alive(process.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert alive(process.pid) == []
    return running


def changed(out: Path, since: float) -> bool:
    return any(path.stat().st_mtime > since for path in out.glob("*/runs/*/metrics.jsonl"))


@pytest.mark.parametrize(
    ("kills", "grid", "moments"),
    [
        pytest.param(1, SMALL, (0, 0.5, 1), id="once"),
        pytest.param(20, LARGE, (1 / 4, 14, 1 / 2), id="often", marks=pytest.mark.matrix),
    ],
)
def test_a_killed_grid_is_continued(
    tmp_path: Path, kills: int, grid: str, moments: tuple[float, float, float]
) -> None:
    data, draw, killed = synthetic.write(tmp_path / "data").path, random.Random(kills), 0
    words = ["compare", "--data", str(data), "--seeds", "1", "--checkpoint-every", "3", *grid.split()]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    here([*words, "--workers", "1", "--out", str(whole)])
    while killed < kills:
        if (out / "grid.csv").is_file():  # it has ended before it was killed as often as it should be
            assert difference(out, whole) == ""
            shutil.rmtree(out)
        process = start(tmp_path, [*words, "--workers", "2", "--out", str(out), "--resume"])
        killed += kill_at_random(process, out, draw, *moments)
    here([*words, "--workers", "1", "--out", str(out), "--resume"])
    assert difference(out, whole) == ""
