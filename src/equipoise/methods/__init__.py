"""Training methods: one file each, on the contract of `base.py`; their classes are attributes here."""

from __future__ import annotations

from typing import Any

from equipoise.methods.base import Method
from equipoise.methods.context import StepContext
from equipoise.methods.creation import METHODS, base_names, create_method
from equipoise.methods.hand import HandTraining, by_hand
from equipoise.methods.relearner import DiagnoseRelearn
from equipoise.methods.requirements import Requirements
from equipoise.methods.run import Counters, Plan, Run

__all__ = [
    "METHODS",
    "Counters",
    "DiagnoseRelearn",
    "HandTraining",
    "Method",
    "Plan",
    "Requirements",
    "Run",
    "StepContext",
    "base_names",
    "by_hand",
    "create_method",
]


def __getattr__(name: str) -> Any:
    """Return the class of a method, such as `equipoise.methods.OGM`; found when it is asked for."""
    if name[:1].isupper():
        for kind in METHODS.values():
            if kind.__name__ == name:
                return kind
    raise AttributeError(f"module 'equipoise.methods' has no attribute {name!r}")
