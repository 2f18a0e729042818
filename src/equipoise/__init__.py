"""Equipoise: find out how well each modality has been learnt, and train so that none is neglected.

The names are listed in `__init__.pyi` and loaded when they are first used, so that `import equipoise` costs
nothing.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_MODULE_OF = {
    words[3]: words[1]
    for words in map(str.split, Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8").splitlines())
    if words[:1] == ["from"] and words[1] != __name__  # a room is no name, see `__getattr__`
}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name == "methods":
        return import_module("equipoise.methods")
    if name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'equipoise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
