"""What the callbacks of transformers' Trainer share: a file in checkpoints, precision, logs, and epochs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from equipoise.diagnosis import Diagnosis
from equipoise.diagnosis.features.reading import device_of
from equipoise.files.extras import needing
from equipoise.files.torch_files import load_tensors
from equipoise.files.untrusted import parsing
from equipoise.files.whole import replaced
from equipoise.loops.callbacks import DiagnosesInTrainer, Tool
from equipoise.loops.transformers_loaders import loader_in_order
from equipoise.relearning.figures import named, scores
from equipoise.types import RunFolderError, UsageError

with needing("transformers", "transformers", "equipoise.loops.transformers"):
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import has_length


class Checkpointed(TrainerCallback):
    """A callback with a file in each checkpoint of the Trainer."""

    file: str
    resume_from: str | Path | None
    _state: Callable[[], dict[str, Any] | None]

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the callback's file into the checkpoint, atomically and in one process only."""
        folder, kept = checkpoint_of(args, state), self._state()
        if kept is not None and state.is_world_process_zero and folder.is_dir():
            with replaced(folder / self.file) as partial, partial.open("wb") as file:
                torch.save(kept, file)  # opened here, as torch does not say why it cannot write

    def _resumed(self, args: TrainingArguments, state: TrainerState, problem: str) -> dict[str, Any] | None:
        """Read the file if training is resumed; `problem` is the consequence if it does not exist."""
        if not state.global_step:
            return None
        if not (path := Path(self.resume_from or checkpoint_of(args, state)) / self.file).is_file():
            raise RunFolderError(
                f"{path} does not exist, so {problem}; resume from a checkpoint that was written with this "
                "callback, and give resume_from= its folder if it is not in output_dir."
            )
        with parsing(lambda found: RunFolderError(f"cannot read {path}: {found}; use another checkpoint.")):
            return dict(load_tensors(path))


class BetweenEpochs(DiagnosesInTrainer[Tool], Checkpointed):
    """Measures on batches in order of a training and a validation set."""

    train_dataset: Dataset[Any] | None
    val_dataset: Dataset[Any]
    _loaders: tuple[Iterable[Any], Iterable[Any]]

    def _choose(
        self,
        val_dataset: Dataset[Any],
        train_dataset: Dataset[Any] | None,
        resume_from: str | Path | None,
    ) -> None:
        """Keep what to diagnose on, and where to resume from."""
        self.train_dataset, self.val_dataset = train_dataset, val_dataset
        self.resume_from = resume_from

    def _prepare(
        self, args: TrainingArguments, state: TrainerState, given: Mapping[str, Any]
    ) -> tuple[int, Callable[[], AbstractContextManager[Any]]]:
        """Make the loaders; return the number of epochs, and the precision of the forward passes."""
        model, loader = given["model"], given["train_dataloader"]
        epochs = int(state.num_train_epochs) if has_length(loader) else 0
        if not epochs:
            raise UsageError(
                "encoders are diagnosed between epochs, which the Trainer does not count for a training set "
                "without a length; give it __len__, and train_dataset= a dataset to diagnose on."
            )
        train = loader.dataset if self.train_dataset is None else self.train_dataset
        self._loaders = (
            loader_in_order(train, loader.collate_fn, args, "train_dataset"),
            loader_in_order(self.val_dataset, loader.collate_fn, args, "val_dataset"),
        )
        return epochs, functools.partial(precision_of, args, model)

    def _log(self, state: TrainerState, diagnosis: Diagnosis | None) -> None:
        """Add what was measured to the Trainer's log, an entry for each modality."""
        for name, values in scores(diagnosis).items() if diagnosis is not None else ():
            log(state, {f"strength/{name}": 0.0, **values})


def epochs_of(state: TrainerState) -> int:
    """Return how many epochs have ended."""
    return int((state.epoch or 0) + 1e-6)  # a fraction in the middle of an epoch


def precision_of(args: TrainingArguments, model: nn.Module) -> AbstractContextManager[Any]:
    """Return the precision of the Trainer's forward passes."""
    if not (args.bf16 or args.fp16):
        return nullcontext()
    return torch.autocast(device_of(model).type, dtype=torch.bfloat16 if args.bf16 else torch.float16)


def log(state: TrainerState, values: Mapping[str, float]) -> None:
    """Add numbers to the Trainer's log."""
    state.log_history.append({**named(values), "epoch": state.epoch, "step": state.global_step})


def checkpoint_of(args: TrainingArguments, state: TrainerState) -> Path:
    """Return the folder of the checkpoint of the present step."""
    return Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"
