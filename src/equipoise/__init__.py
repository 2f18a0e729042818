"""Equipoise: find out how well each modality has been learnt, and train so that none is neglected.

The names are listed in `__init__.pyi` and loaded when they are first used, so that `import equipoise` costs
nothing.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_MODULE_OF = {
    name.name: str(statement.module)
    for statement in _STUB.body
    if isinstance(statement, ast.ImportFrom) and statement.module != __name__  # a room, see `__getattr__`
    for name in statement.names
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
