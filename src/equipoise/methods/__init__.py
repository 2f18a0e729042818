"""Training methods: one file each, on the contract of `base.py`."""

from __future__ import annotations

from equipoise.methods.base import Method
from equipoise.methods.context import StepContext
from equipoise.methods.creation import METHODS, base_names, create_method
from equipoise.methods.relearner import DiagnoseRelearn
from equipoise.methods.requirements import Requirements
from equipoise.methods.run import Counters, Plan, Run

__all__ = [
    "METHODS",
    "Counters",
    "DiagnoseRelearn",
    "Method",
    "Plan",
    "Requirements",
    "Run",
    "StepContext",
    "base_names",
    "create_method",
]
