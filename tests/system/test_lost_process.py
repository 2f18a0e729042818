"""Processes that nothing supervises, as on several machines: they notice themselves that one is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import shared_runs
import synthetic

WITHIN = 60
pytestmark = pytest.mark.matrix


@contextmanager
def training(folder: Path, *words: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Start three processes of a long run, as torchrun does but without its agent."""
    data = synthetic.write(folder / "data", count=160).path
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCH_CPP_LOG_LEVEL": "ERROR"}
    support = str(Path(shared_runs.__file__).parent)
    common["PYTHONPATH"] = os.pathsep.join([support, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "equipoise", "train", "--data", str(data), "--device", "cpu"]
    command += ["--epochs", "5000", "--checkpoint-every", "1", "--out", str(folder / "run"), *words]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "012"
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Wait for the processes; return their exit codes and what they said."""
    end = time.monotonic() + WITHIN
    found = []
    for process in processes:
        _, said = process.communicate(timeout=max(0.1, end - time.monotonic()))
        found.append((process.returncode, said.strip()))
    return found


@pytest.mark.parametrize("lost", [0, 1])
def test_the_others_end_and_say_why(lost: int, tmp_path: Path) -> None:
    with training(tmp_path) as processes:
        end = time.monotonic() + 120
        while not (tmp_path / "run" / "checkpoint.pt").exists():
            assert time.monotonic() < end
            assert all(process.poll() is None for process in processes)
            time.sleep(0.2)
        processes[lost].send_signal(signal.SIGKILL)
        found = ended([process for rank, process in enumerate(processes) if rank != lost])
        assert all(code == 1 for code, _ in found)
        said = [line for _, text in found for line in text.splitlines()]
        assert f"equipoise: process {lost} of 3 (counted from 0) has ended without a word." in said[0]
        assert "Continue with --resume" in said[0]
        assert (tmp_path / "run" / "checkpoint.pt").is_file()


def test_an_error_of_one_process_is_told_by_the_first(tmp_path: Path) -> None:
    with training(tmp_path, "--model", "shared_runs:FailsInTheSecond") as processes:
        found = ended(processes)
        assert all(code == 1 for code, _ in found), found
        assert "process 1 of 3 failed: ZeroDivisionError: in one process only" in found[0][1]
        assert "unexpected ZeroDivisionError: in one process only" in found[1][1]
