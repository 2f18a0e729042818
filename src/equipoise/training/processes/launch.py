"""Start the processes of a run on this machine, and end all of them if one fails or is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NoReturn

from equipoise import types
from equipoise.training.processes.group import LAUNCHED, Arrangement
from equipoise.types import EquipoiseError, TrainingError, UsageError

WORKER: Final = "equipoise.training.worker"
TASK, EPOCHS, ERROR = "task.json", "epochs.jsonl", "error-{rank}.json"
POLL: Final = 0.1
GRACE: Final = 5.0
"""Seconds that a process has to end when it is told to."""

OnEpoch = Callable[[int, dict[str, float]], None]


def launch(
    options: Mapping[str, Any],
    folder: Path,
    arrangement: Arrangement,
    on_epoch: OnEpoch | None,
    keywords: Mapping[str, Any],
) -> None:
    """Train in new processes, and wait for them; their task is `run` with these options and keywords.

    Raises:
        EquipoiseError: the first error of a process.
        TrainingError: a process was killed, or failed for another reason.
    """
    environment = _environment(arrangement)
    first = int(os.environ.get("NODE_RANK", 0)) * arrangement.devices
    with TemporaryDirectory(prefix="equipoise-processes-") as name:
        place = Path(name)
        task = {"options": options, "folder": str(folder.absolute()), "keywords": keywords}
        (place / TASK).write_text(json.dumps(task, default=str), encoding="utf-8")
        processes: dict[int, subprocess.Popen[bytes]] = {}
        try:
            for local in range(arrangement.devices):
                own = {"RANK": str(first + local), "LOCAL_RANK": str(local)}
                command = [sys.executable, "-m", WORKER, name]
                processes[first + local] = subprocess.Popen(command, env={**environment, **own})
            _wait(processes, place, on_epoch, arrangement.count)
        finally:
            _stop(list(processes.values()))


def _environment(arrangement: Arrangement) -> dict[str, str]:
    """Return the environment that torchrun would give the processes."""
    found = dict(os.environ)
    if arrangement.nodes > 1:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in found]
        if missing:
            raise UsageError(
                f"nodes is {arrangement.nodes}, and {', '.join(missing)} is not in the environment; set "
                "MASTER_ADDR, MASTER_PORT and NODE_RANK on each machine, or start with torchrun or srun."
            )
    else:
        found |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "NODE_RANK": "0"}
    threads = max(1, (os.cpu_count() or 1) // arrangement.devices)
    found.setdefault("OMP_NUM_THREADS", str(threads))
    found.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch warns of the others when one has ended
    return found | {
        "WORLD_SIZE": str(arrangement.count),
        "LOCAL_WORLD_SIZE": str(arrangement.devices),
        "GROUP_RANK": found["NODE_RANK"],
        "TORCHELASTIC_RUN_ID": "equipoise",
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        LAUNCHED: str(os.getpid()),
    }


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(
    processes: Mapping[int, subprocess.Popen[bytes]], place: Path, on_epoch: OnEpoch | None, count: int
) -> None:
    told = 0
    while True:
        codes = {rank: process.poll() for rank, process in processes.items()}
        epochs = place / EPOCHS
        if on_epoch is not None and epochs.is_file():
            lines = epochs.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            for line in whole[told:]:
                on_epoch(*json.loads(line))
            told = len(whole)
        if any(codes.values()):
            time.sleep(POLL)  # where one was killed, others may fail at once, because of that
            _explain({rank: process.poll() for rank, process in processes.items()}, place, count)
        if all(code == 0 for code in codes.values()):
            return
        time.sleep(POLL)


def _explain(codes: Mapping[int, int | None], place: Path, count: int) -> NoReturn:
    """Raise the error of the processes of which some have failed."""
    for rank, code in codes.items():
        if code is not None and code < 0:
            raise TrainingError(
                f"process {rank} of {count} (counted from 0) was ended by the signal "
                f"{signal.Signals(-code).name}; continue with --resume."
            )
    for rank in sorted(rank for rank, code in codes.items() if code):
        path = place / ERROR.format(rank=rank)
        if path.is_file():
            raise _read(json.loads(path.read_text(encoding="utf-8")))
    ended = {rank: code for rank, code in codes.items() if code}
    raise TrainingError(
        f"{', '.join(f'process {rank} ended with code {code}' for rank, code in ended.items())} of {count} "
        "processes; continue with --resume."
    )


def report(place: Path, rank: int, error: BaseException, traceback: str) -> None:
    """Leave an error of a process for the one that has started it."""
    entry = {"kind": type(error).__name__, "text": str(error), "traceback": traceback}
    (place / ERROR.format(rank=rank)).write_text(json.dumps(entry), encoding="utf-8")


def _read(entry: Mapping[str, str]) -> EquipoiseError:
    kind = getattr(types, entry["kind"], None)
    if not (isinstance(kind, type) and issubclass(kind, EquipoiseError)):
        error = TrainingError(f"a process failed: {entry['kind']}: {entry['text']}")
        error.add_note(entry["traceback"])
        return error
    made_of_more = "__init__" in vars(kind)  # the text is not what it is made of
    return UsageError(entry["text"]) if made_of_more else kind(entry["text"])


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the processes that still run."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    end = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
