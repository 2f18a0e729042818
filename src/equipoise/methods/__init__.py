"""Training methods: one file each, on the contract of `base.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.methods.base import Counters, Method, Requirements, Run, StepContext
from equipoise.methods.relearner import DiagnoseRelearn
from equipoise.registry import Registry
from equipoise.types import UsageError

METHODS: Registry[Method] = Registry("method", Method, "equipoise.methods", "equipoise.methods")


def create_method(spec: str, options: Mapping[str, Any] | None = None) -> Method:
    """Build a method from its name, or `name:value` where it comes in variants (`unimodal:audio`).

    Raises:
        UnknownNameError: there is no such method or option.
        UsageError: a value is given to a method that takes none, or is missing.
    """
    name, _, value = spec.partition(":")
    kind, chosen = METHODS[name], dict(options or {})
    if value:
        if kind.argument is None:
            raise UsageError(f"the method {name!r} has no variants; found {spec!r}, expected {name!r}.")
        chosen[kind.argument] = value
    elif kind.argument is not None and kind.argument not in chosen:
        raise UsageError(
            f"the method {name!r} runs on one {kind.argument} at a time; expected {name}:NAME, "
            f"such as {name}:audio."
        )
    return kind.create(chosen)


__all__ = [
    "METHODS",
    "Counters",
    "DiagnoseRelearn",
    "Method",
    "Requirements",
    "Run",
    "StepContext",
    "create_method",
]
