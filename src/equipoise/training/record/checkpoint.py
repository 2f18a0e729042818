"""What an interrupted run goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from equipoise.types import RunFolderError

FORMAT = 3


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values, whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    torch.save({"format": FORMAT, **state}, partial)
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, from where `load_state_dict` puts it in place; nothing is executed.

    Raises:
        RunFolderError: it is damaged, or of another format.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a damaged file
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunFolderError(f"cannot read {path}: {line}. Overwrite the run to start again.") from None
    if state.get("format") != FORMAT:
        raise RunFolderError(
            f"{path} has the format {state.get('format')!r}, expected {FORMAT}; it was written by another "
            "version: overwrite the run to start again."
        )
    return state
