"""Processes of tests, forked from a server that has imported torch and other packages once.

A new interpreter takes seconds to import them. The server imports nothing of Equipoise, so that the imports
of a process from Equipoise, and their order, are tested as in a new interpreter.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.util
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.multiprocessing

TIMEOUT = 900.0
multiprocessing.util.get_temp_dir()  # now, because that of the tests is removed before the server ends
SCRIPT_AND_EXIT = """
import os, runpy, sys
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)
"""
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["torch.distributed", "sklearn.cluster", "pandas", "lightning.pytorch", "transformers", "accelerate"]
)


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    returncode: int | None
    stdout: str
    stderr: str


def alive(session: int) -> list[str]:
    """Return the commands of the processes of a session that are still running."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended between listing and reading
            name, _, rest = stat.read_text().rpartition(")")
            state, _, _, of_session = rest.split()[:4]
            if of_session == str(session) and state != "Z":
                found.append(name)
    return found


def in_two_processes(work: Callable[..., None], *arguments: Any) -> None:
    """Call `work(rank, *arguments)` in two new interpreters; raise an error of either."""
    torch.multiprocessing.start_processes(_seeded, (work, *arguments), nprocs=2, start_method="spawn")


def _seeded(rank: int, work: Callable[..., None], *arguments: Any) -> None:
    np.random.seed()  # as in a new interpreter, and different from the other process
    work(rank, *arguments)


def python(*words: object, cwd: Path, **environment: str) -> Ended:
    """Run `python WORDS`: a script, `-m` and a module, or `-c` and a program, and their arguments."""
    folder = Path(tempfile.mkdtemp())
    given = ([str(word) for word in words], cwd, {**os.environ, **environment}, folder)
    process = _context.Process(target=_run, args=given)
    process.start()
    process.join(TIMEOUT)
    if process.exitcode is None:
        process.kill()
        process.join()
    texts = [(folder / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
    return Ended(process.exitcode, *texts)


def torchrun(*words: object, cwd: Path, count: int = 2) -> list[Ended]:
    """Run a script with its arguments in some processes, with the environment of `torchrun`.

    They are new interpreters: forked processes that train together sometimes hang. They exit immediately
    after the script: at a regular exit torch sometimes aborts a process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    common |= {"GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-c", SCRIPT_AND_EXIT, *map(str, words)]
    processes = [
        subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in map(str, range(count))
    ]
    ended = []
    for process in processes:
        try:
            texts = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            texts = process.communicate()
        ended.append(Ended(process.returncode, *texts))
    return ended


def _run(words: list[str], cwd: Path, environment: dict[str, str], folder: Path) -> None:
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), descriptor)
    np.random.seed()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    given = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    if words[0] in ("-m", "-c"):
        sys.argv, first = words[1:], str(cwd)
    else:
        sys.argv, first = words, str(Path(words[0]).resolve().parent)
    sys.path[:] = [first, *given, *(path for path in sys.path if path not in ("", first, *given))]
    if words[0] == "-m":
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        exec(words[1], {"__name__": "__main__"})
    else:
        runpy.run_path(words[0], run_name="__main__")
