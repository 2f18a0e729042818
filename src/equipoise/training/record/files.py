"""Files of a record, written whole or not at all: weights without pickles, and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from equipoise.types import RunFolderError
from equipoise.untrusted import first_line as first_line
from equipoise.whole_files import replaced

if TYPE_CHECKING:  # the command line shows its help without loading torch
    from torch import Tensor, nn

CHECKPOINT_FORMAT: Final = 3


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of weights and buffers on the CPU; tensors that share memory could not be saved.

    If the weights are sharded, all processes must call it.
    """
    from equipoise.distributed import whole

    return {n: whole(value.detach()).contiguous().clone() for n, value in model.state_dict().items()}


def write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write what `weights_of` returned."""
    from safetensors.torch import save_file

    with replaced(path) as partial:
        save_file(weights, partial)


def read_weights(path: Path, model: nn.Module) -> None:
    """Load weights and buffers from a file into a model.

    Raises:
        RunFolderError: the file is missing or damaged, or does not fit the model.
    """
    from safetensors.torch import load_file

    from equipoise.distributed import load_whole

    try:
        load_whole(model, load_file(path))
    except Exception as error:  # safetensors and torch raise many kinds
        raise RunFolderError(
            f"cannot read {path}: {first_line(error)}. Overwrite the run to train it again."
        ) from None


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values, whole or not at all."""
    import torch

    with replaced(path) as partial:
        torch.save({"format": CHECKPOINT_FORMAT, **state}, partial)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; no code in it is executed.

    Raises:
        RunFolderError: it is damaged, or of another format.
    """
    import torch

    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds of errors for a damaged file
        raise RunFolderError(
            f"cannot read {path}: {first_line(error)}. Overwrite the run to start again."
        ) from None
    if state.get("format") != CHECKPOINT_FORMAT:
        raise RunFolderError(
            f"{path} has the format {state.get('format')!r}, expected {CHECKPOINT_FORMAT}; it was written by "
            "another version. Overwrite the run to start again."
        )
    return state
