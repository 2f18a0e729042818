"""Weights of a record, written whole or not at all, without pickles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.files.limits import check_machine
from equipoise.files.untrusted import first_line
from equipoise.files.whole import replaced
from equipoise.training.record.events import REMEDY
from equipoise.types import RunFolderError

if TYPE_CHECKING:  # the command line shows its help without loading torch
    from torch import Tensor, nn


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


def read_weights(path: Path, model: nn.Module, advice: str = REMEDY) -> None:
    """Load weights and buffers from a file into a model; `advice` ends the message of an error.

    Raises:
        RunFolderError: the file is missing or damaged, or does not fit the model.
    """
    from equipoise.distributed import load_whole
    from equipoise.models.multimodal import in_present_names

    tensors = read_tensors(path, advice)
    try:
        load_whole(model, in_present_names(model, tensors))
    except Exception as error:  # torch raises many kinds
        check_machine(error)
        raise _unreadable(path, error, advice) from None


def read_tensors(path: Path, advice: str = REMEDY) -> dict[str, Tensor]:
    """Read what `write_weights` has written; `advice` ends the message of an error.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # safetensors raises kinds of its own
        check_machine(error)
        raise _unreadable(path, error, advice) from None


def _unreadable(path: Path, error: Exception, advice: str) -> RunFolderError:
    return RunFolderError(f"cannot read {path}: {first_line(error)}. {advice}")
