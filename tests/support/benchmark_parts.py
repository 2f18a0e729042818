"""The modules of a benchmark, which lie in a folder of scripts and not in a package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def modules_of(name: str, parts: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Import the modules of one benchmark; those of another, with equal names, do not see them."""
    parts = tuple(parts)
    monkeypatch.syspath_prepend(str(BENCHMARKS / name))
    for part in parts:
        monkeypatch.delitem(sys.modules, part, raising=False)
    found = {part: importlib.import_module(part) for part in parts}
    for part in parts:
        monkeypatch.delitem(sys.modules, part)
    return found
