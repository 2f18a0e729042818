"""Check that the requested device exists."""

from __future__ import annotations

import torch

from equipoise.types import UsageError


def check_device(name: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        UsageError: `cuda` or `mps` was requested, and torch finds none.
    """
    missing = (name == "cuda" and not torch.cuda.is_available()) or (
        name == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise UsageError(
            f"torch {torch.__version__} finds no {name} device on this machine; expected 'auto' or 'cpu' "
            "here, or a torch build and driver that support it."
        )
