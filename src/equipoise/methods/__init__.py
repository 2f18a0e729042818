"""Training methods, one file each, built on the contract in `core`; their classes are attributes here."""

from __future__ import annotations

from typing import Any

from equipoise.methods.core.creation import base_names, create_method
from equipoise.methods.core.method import METHODS, Method
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Counters, Plan, Run, StepContext

__all__ = [
    "METHODS",
    "Counters",
    "Method",
    "Plan",
    "Requirements",
    "Run",
    "StepContext",
    "base_names",
    "create_method",
]


def __getattr__(name: str) -> Any:
    """Return the class of a method, such as `equipoise.methods.OGM`, loaded on first access."""
    if name[:1].isupper():
        for kind in METHODS.values():
            if kind.__name__ == name:
                return kind
    raise AttributeError(f"module 'equipoise.methods' has no attribute {name!r}")
