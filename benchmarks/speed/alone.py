"""Run a function in a process of its own, and measure its seconds and memory there."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from turns import Turn

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def alone(module: str, arguments: dict[str, Any], threads: int = 1) -> dict[str, Any]:
    """Return what a module's `measured(**arguments)` returns, from a new process with so many threads."""
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    command = [sys.executable, __file__, module, json.dumps(arguments)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment).stdout
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return found | {"turn": Turn(*found["turn"])} if "turn" in found else found


class Memory:
    """Within a block, follows the memory of the process: `bytes` is the largest increase."""

    def __enter__(self) -> Memory:
        CLEAR.write_text("5", encoding="ascii")  # the highest memory so far becomes that of now
        self._before = _status("VmRSS:")
        return self

    def __exit__(self, *error: object) -> None:
        self.bytes = _status("VmHWM:") - self._before


def _status(key: str) -> int:
    lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    module, given = sys.argv[1:]
    print(json.dumps(importlib.import_module(module).measured(**json.loads(given))))
