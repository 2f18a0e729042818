"""Load lightning-fabric without the packages that a training does not need."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

METRICS = "torchmetrics"


def fabric_class() -> type[Any]:
    """Return `lightning_fabric.Fabric`."""
    with _unloaded_metrics():
        from lightning_fabric import Fabric
    kind: type[Any] = Fabric
    return kind


@contextmanager
def _unloaded_metrics() -> Iterator[None]:
    """Let lightning-fabric find torchmetrics installed, but not load it.

    While it is imported, lightning-fabric checks the version of torchmetrics, which loads all of it, and
    transformers and matplotlib where they are installed. With an empty module in its place, the version comes
    from the metadata of the package. The empty module is then removed,
    so that a later import gets the real one.
    """
    if METRICS in sys.modules or "lightning_fabric" in sys.modules:
        yield
        return
    empty = ModuleType(METRICS)
    sys.modules[METRICS] = empty
    try:
        yield
    finally:
        if sys.modules.get(METRICS) is empty:
            del sys.modules[METRICS]
