"""Diagnosing & Re-learning, and any standard method, as callbacks of the Trainer of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset

from equipoise.distributed import process_count
from equipoise.loops.handles import Handles, check_handles, resolved
from equipoise.loops.trainer_files import checkpoint_folder, precision, read_state, write_state
from equipoise.loops.transformers_methods import MethodCallback
from equipoise.relearning import DiagnoseRelearn
from equipoise.types import MissingExtraError, UsageError

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError as error:
    raise MissingExtraError("transformers", "transformers", "equipoise.loops.transformers") from error

__all__ = ["DiagnoseRelearnCallback", "MethodCallback"]

STATE = "equipoise.pt"
"""Name of the callback's file in a checkpoint's folder."""


class DiagnoseRelearnCallback(TrainerCallback):
    """Diagnose and re-learn the encoders of a model that `transformers.Trainer` trains.

    A re-learning that is due after epoch e is done right before epoch e + 1. Scores, gap and strength are put
    into `state.log_history`; each checkpoint gets a file `equipoise.pt`, which a resumed training reads.

    Args:
        encoders: modality to encoder, or to its path inside the model (`"text"`, `"model.vision"`); for a
            model of `peft` the path inside the model that it adapts.
        val_dataset: what the Trainer evaluates on; never the test split.
        every, count, lam: see `equipoise.DiagnoseRelearn`.
        train_dataset: what to diagnose on, best without augmentation; by default the Trainer's.
        resume_from: folder of the checkpoint that training is resumed from, where that is no folder
            `checkpoint-N` of the Trainer's own output.
        **options: further arguments of `equipoise.DiagnoseRelearn`. The optimiser is the Trainer's.

    Attributes:
        relearn: the `equipoise.DiagnoseRelearn` that does the work, once training has begun.

    Raises:
        UsageError: an option does not exist, or the handles are no modules or paths.
    """

    def __init__(
        self,
        encoders: Handles,
        val_dataset: Dataset[Any],
        every: int = 20,
        count: int = 3,
        lam: float | Mapping[str, float] = 3.0,
        *,
        train_dataset: Dataset[Any] | None = None,
        resume_from: str | Path | None = None,
        **options: Any,
    ) -> None:
        check_handles(encoders)
        self.encoders: Handles = dict(encoders)
        self.options = {"every": every, "count": count, "lam": lam, **options}
        self.train_dataset, self.val_dataset = train_dataset, val_dataset
        self.resume_from = resume_from
        self.relearn: DiagnoseRelearn | None = None
        self._followed = -1  # the last epoch that has been followed by what is due behind it

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **given: Any,
    ) -> None:
        """Remember the encoders as they are, or as the checkpoint says that they were."""
        model, optimizer = given["model"], given.get("optimizer")
        raw = getattr(optimizer, "optimizer", optimizer)  # inside the wrapper of accelerate
        self.relearn = DiagnoseRelearn(resolved(self.encoders, model), **{"optimizer": raw, **self.options})
        self._followed = -1
        if state.num_train_epochs:
            self.relearn.check(int(state.num_train_epochs))
        if state.global_step:
            self._take_over(args, state)

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **given: Any,
    ) -> None:
        """Re-learn where that is due behind the epoch before."""
        model, train_dataloader = given["model"], given["train_dataloader"]
        relearn = self.relearn
        epoch = int((state.epoch or 0) + 1e-6) - 1  # a fraction in the middle of an epoch
        if relearn is None or epoch <= self._followed:
            return
        self._followed = epoch
        relearn.track()
        if not relearn.due(epoch):
            return
        train = train_dataloader.dataset if self.train_dataset is None else self.train_dataset
        loaders = [_loader(data, train_dataloader.collate_fn, args) for data in (train, self.val_dataset)]
        with precision(args, model):
            diagnosis = relearn.step(epoch, model, *loaders)
        for name, found in diagnosis.items():
            values = {"train_score": found.train_score, "val_score": found.val_score, "gap": found.gap}
            entry = {f"equipoise/{name}/{key}": value for key, value in values.items()}
            entry[f"equipoise/{name}/strength"] = found.applied or 0.0
            state.log_history.append({**entry, "epoch": state.epoch, "step": state.global_step})

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Put the callback's file into the checkpoint."""
        if self.relearn is not None:
            kept = {"relearn": self.relearn.state_dict(), "followed": self._followed}
            write_state(args, state, STATE, kept)

    def _take_over(self, args: TrainingArguments, state: TrainerState) -> None:
        assert self.relearn is not None
        folder = self.resume_from or checkpoint_folder(args, state)
        kept = read_state(folder, STATE, "the weights that encoders are pulled toward are not known")
        self.relearn.load_state_dict(kept["relearn"])
        self._followed = int(kept["followed"])


def _loader(dataset: Any, collate: Any, args: TrainingArguments) -> DataLoader[Any]:
    """Return batches in order, each process its share; the Trainer's own loader is amid its draws."""
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise UsageError(
            f"a {type(dataset).__name__} cannot be read a second time in order; give train_dataset= a "
            "dataset with a length to diagnose on."
        )
    sampler: Any = DistributedSampler(dataset, shuffle=False) if process_count() > 1 else None
    return DataLoader(
        dataset, batch_size=args.per_device_eval_batch_size, sampler=sampler, collate_fn=collate
    )
