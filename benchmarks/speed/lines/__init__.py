"""The lines of the measurement, one file each: its letter, `TITLE`, and `measure(size) -> Found`."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

LINES: dict[str, ModuleType] = {
    path.stem[0]: importlib.import_module(f"lines.{path.stem}")
    for path in sorted(Path(__file__).parent.glob("[a-z]_*.py"))
}
