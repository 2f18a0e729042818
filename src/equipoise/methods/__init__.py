"""Training methods, one file each, built on the contract in `core`; their classes are attributes here."""

from __future__ import annotations

from typing import Any

from equipoise.methods.core.creation import base_names as base_names
from equipoise.methods.core.creation import create_method as create_method
from equipoise.methods.core.method import METHODS as METHODS
from equipoise.methods.core.method import Method as Method
from equipoise.methods.core.requirements import Requirements as Requirements
from equipoise.methods.core.run import Counters as Counters
from equipoise.methods.core.run import Plan as Plan
from equipoise.methods.core.run import Run as Run
from equipoise.methods.core.run import StepContext as StepContext


def __getattr__(name: str) -> Any:
    """Return the class of a method, such as `equipoise.methods.OGM`, loaded on first access."""
    if name[:1].isupper():
        for kind in METHODS.values():
            if kind.__name__ == name:
                return kind
    raise AttributeError(f"module 'equipoise.methods' has no attribute {name!r}")
