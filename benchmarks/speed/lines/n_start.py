"""How long the command and the import take to start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from turns import Found, Ratio, Size, in_turn

TITLE = "Start of the command and of the import"


def measure(size: Size) -> Found:
    works = {
        "help": command("-m", "equipoise", "--help"),
        "python": command("-c", "pass"),
        "import": command("-c", "import equipoise as eq; eq.fit"),
        "torch": command("-c", "import torch"),
    }
    turns = in_turn(works, size.of(7, 1), warm=not size.quick)
    return Found(
        [
            Ratio("equipoise --help / python -c pass", turns["help"], turns["python"], unit=" s"),
            Ratio("import of equipoise.fit / import torch", turns["import"], turns["torch"], unit=" s"),
        ]
    )


def command(*words: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *words], capture_output=True, check=True)
