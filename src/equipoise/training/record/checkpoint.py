"""The checkpoint from which an interrupted run is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from equipoise.training.record.files import first_line, replaced
from equipoise.types import RunFolderError

FORMAT = 3


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values, whole or not at all."""
    with replaced(path) as partial:
        torch.save({"format": FORMAT, **state}, partial)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; no code in it is executed.

    Raises:
        RunFolderError: it is damaged, or of another format.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds of errors for a damaged file
        raise RunFolderError(
            f"cannot read {path}: {first_line(error)}. Overwrite the run to start again."
        ) from None
    if state.get("format") != FORMAT:
        raise RunFolderError(
            f"{path} has the format {state.get('format')!r}, expected {FORMAT}; it was written by another "
            "version. Overwrite the run to start again."
        )
    return state
