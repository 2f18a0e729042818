"""Two worker processes against one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

from sets import HTAD, folder
from turns import Found, Ratio, Size, in_turn

TITLE = "Two worker processes against one"


def measure(size: Size) -> Found:
    found = Found()
    if (os.cpu_count() or 1) < 2:
        found.missing["two workers"] = "the machine has one core"
        return found
    works = {f"{workers}": comparing(workers, size) for workers in (1, 2)}
    turns = in_turn(works, size.of(3, 1), warm=False)
    seeds, epochs = size.of((10, 60), (2, 1))
    what = f"compare, 2 methods x {seeds} seeds, {epochs} epochs: 1 worker / 2 workers"
    found.ratios.append(Ratio(what, turns["1"], turns["2"], 1.7, at_least=True, unit=" s"))
    found.notes.append("The whole command, with its start, statistics and report.")
    return found


def comparing(workers: int, size: Size) -> Callable[[], object]:
    seeds, epochs = size.of((10, 60), (2, 1))
    out = folder() / f"workers-{workers}"
    methods = ["joint", "diagnose-relearn"] if not size.quick else ["joint", "ogm-ge"]
    words = ["compare", "--data", HTAD, "--methods", *methods, "--seeds", str(seeds), "--epochs", str(epochs)]

    def work() -> None:
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-m", "equipoise", *words, "--workers", str(workers), "--out", str(out)]
        subprocess.run(command, capture_output=True, check=True)

    return work
