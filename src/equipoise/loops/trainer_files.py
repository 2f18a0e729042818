"""What both callbacks of transformers share: their files in a checkpoint, and the Trainer's precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from equipoise.diagnosis.features.reading import device_of
from equipoise.types import RunFolderError


def checkpoint_folder(args: Any, state: Any) -> Path:
    """Return the folder of the checkpoint of the present step."""
    return Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"


def write_state(args: Any, state: Any, name: str, kept: dict[str, Any]) -> None:
    """Write a callback's file into the checkpoint, whole or not at all; one process does it for all."""
    folder = checkpoint_folder(args, state)
    if not state.is_world_process_zero or not folder.is_dir():
        return
    torch.save(kept, folder / f"{name}.part")
    (folder / f"{name}.part").replace(folder / name)


def read_state(folder: str | Path, name: str, why: str) -> dict[str, Any]:
    """Read a callback's file.

    Args:
        folder: the checkpoint's.
        name: the file's.
        why: what is not known without it.

    Raises:
        RunFolderError: there is none.
    """
    path = Path(folder) / name
    if not path.is_file():
        raise RunFolderError(
            f"{path} does not exist, so {why}; resume from a checkpoint that was written with this callback, "
            "and give resume_from= its folder where it is not in output_dir."
        )
    kept: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return kept


def precision(args: Any, model: nn.Module) -> AbstractContextManager[Any]:
    """Return the precision that the Trainer's forward passes run under."""
    if not (args.bf16 or args.fp16):
        return nullcontext()
    return torch.autocast(device_of(model).type, dtype=torch.bfloat16 if args.bf16 else torch.float16)
