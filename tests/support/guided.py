"""Inputs for a reader that atheris finds by what they reach in the code of Equipoise.

`EQUIPOISE_GUIDED=2000` tries so many in place of damaged copies, see `mutations`. The code has to be watched
from when it is imported, by the plugin `watched_code`: `PYTHONPATH=tests/support pytest -p watched_code ...`.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

VARIABLE = "EQUIPOISE_GUIDED"


def explore(
    try_one: Callable[[bytes], None], row: Callable[[], dict[str, Any]], whole: Sequence[bytes], count: int
) -> dict[str, Any]:
    """Let atheris call `try_one` in a process of its own, which ends with it.

    Args:
        try_one: takes an input, and raises an error that is a fault.
        row: returns what came of the inputs so far.
        whole: the first inputs.
        count: how many inputs are tried.

    Returns:
        The row of that process, with what `failed`, on which `input` in base 64, and how many `reached`
        something new.
    """
    with tempfile.TemporaryDirectory() as name:
        inputs, told = Path(name) / "inputs", Path(name) / "row.json"
        inputs.mkdir()
        for place, content in enumerate(filter(None, whole)):
            (inputs / f"{place}").write_bytes(content)
        before = len(list(inputs.iterdir()))
        if (child := os.fork()) == 0:
            _run(try_one, row, inputs, told, count)
        _, status = os.waitpid(child, 0)
        if not told.exists():
            return {**row(), "failed": f"the process ended with {os.waitstatus_to_exitcode(status)}"}
        found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
        return found | {"reached": len(list(inputs.iterdir())) - before}


def _run(
    try_one: Callable[[bytes], None],
    row: Callable[[], dict[str, Any]],
    inputs: Path,
    told: Path,
    count: int,
) -> NoReturn:
    import atheris  # type: ignore[import-not-found]

    tried = 0

    def one(content: bytes) -> None:
        nonlocal tried
        failed = ""
        try:
            try_one(content)
        except BaseException as error:
            failed = str(error)
        tried += 1
        if failed or tried == count:
            found = {**row(), "failed": failed}
            if failed:
                found["input"] = base64.b64encode(content).decode()
            told.write_text(json.dumps(found), encoding="utf-8")
            os._exit(0)

    longest = 4096 + 4 * max(path.stat().st_size for path in inputs.iterdir())
    # Time and memory are bounded by `limits`, whose signals those of the explorer would replace.
    bounds = ["-timeout=0", "-rss_limit_mb=0", "-malloc_limit_mb=0", f"-max_len={longest}", "-seed=1"]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    atheris.Setup(["guided", *bounds, f"-runs={2 * count}", str(inputs)], one)
    atheris.Fuzz()
    os._exit(2)
