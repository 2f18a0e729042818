"""Watching, Diagnosing & Re-learning, and methods of a standard step, for the Trainer of transformers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from equipoise.diagnosis.features.reading import logits_in
from equipoise.distributed import unwrapped
from equipoise.files.extras import needing
from equipoise.loops.callbacks import Handles, RelearnsInTrainer, TrainsByMethod, WatchesInTrainer
from equipoise.loops.plain.passes import loss_in, with_loss
from equipoise.loops.transformers_epochs import BetweenEpochs, Checkpointed, epochs_of, log, precision_of
from equipoise.loops.transformers_loaders import Measured
from equipoise.methods import Method
from equipoise.relearning import DiagnoseRelearn, Monitor
from equipoise.types import ModelError, UsageError

with needing("transformers", "transformers", "equipoise.loops.transformers"):
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import has_length

ITEMS = "num_items_in_batch"
"""Argument of models that divide their loss by the samples of all accumulated batches."""


class DiagnoseRelearnCallback(RelearnsInTrainer, BetweenEpochs[DiagnoseRelearn]):
    """Diagnose and re-learn the encoders of a model that `transformers.Trainer` trains.

    A re-learning that is due after epoch e runs directly before epoch e + 1. Scores, gap and strength are
    added to `state.log_history`; each checkpoint gets a file `equipoise.pt`, which a resumed training reads.
    A second `train()` of the same encoders keeps the initial weights from before the first, with a warning.

    Args:
        encoders: modality to encoder, or to its path inside the model (`"text"`, `"model.vision"`); for a
            model of `peft` the path inside the adapted model.
        val_dataset: what the Trainer evaluates on; never the test split.
        every, count, lam: see `equipoise.DiagnoseRelearn`.
        train_dataset: what to diagnose on, preferably without augmentation; by default the Trainer's.
        resume_from: folder of the checkpoint that training is resumed from, if it is not a folder
            `checkpoint-N` of the Trainer's own output.
        **options: further arguments of `equipoise.DiagnoseRelearn`. The optimiser is the Trainer's.

    Attributes:
        relearn: the `equipoise.DiagnoseRelearn` that does the work, once training has begun.

    Raises:
        UsageError: an option does not exist, or the handles are not modules or paths.
    """

    file = "equipoise.pt"

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
        super().__init__(encoders, {"every": every, "count": count, "lam": lam, **options})
        self._choose(val_dataset, train_dataset, resume_from)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Keep the initial weights of the encoders, or restore them from the checkpoint."""
        epochs, precision = self._prepare(args, state, given)
        kept = self._resumed(args, state, "the initial weights of the encoders are unknown")
        self._start(given["model"], precision, kept, optimizer=given.get("optimizer"))
        self._begin(epochs_of(state), epochs)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Re-learn if that is due after the previous epoch."""
        self._log(state, self._follow(epochs_of(state) - 1, given["model"], lambda: self._loaders))


class MonitorCallback(WatchesInTrainer, BetweenEpochs[Monitor]):
    """Watch how well each modality is learnt under `transformers.Trainer`, without a change to the training.

    A look follows every epoch in which it is due, and the last planned one. Scores, gap and strength are
    added to `state.log_history`; each checkpoint gets a file `equipoise-monitor.pt` with the history, which a
    resumed training reads. A second `train()` begins a new history.

    Args:
        encoders: modality to encoder, or to its path inside the model (`"text"`, `"model.vision"`).
        val_dataset: what the Trainer evaluates on; never the test split.
        every: epochs between looks.
        train_dataset, resume_from: see `DiagnoseRelearnCallback`.
        **options: further arguments of `equipoise.Monitor`, such as `lam`, `preset`, `pool`, `log`.

    Attributes:
        monitor: the `equipoise.Monitor` with the history, once training has begun.

    Raises:
        UsageError: an option does not exist, or the handles are not modules or paths.
    """

    file = "equipoise-monitor.pt"

    def __init__(
        self,
        encoders: Handles,
        val_dataset: Dataset[Any],
        every: int = 5,
        *,
        train_dataset: Dataset[Any] | None = None,
        resume_from: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(encoders, {"every": every, **options})
        self._choose(val_dataset, train_dataset, resume_from)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Begin a history, or restore it from the checkpoint."""
        epochs, precision = self._prepare(args, state, given)
        kept = self._resumed(args, state, "what was measured before is unknown")
        self._start(given["model"], precision, kept)
        self._begin(epochs_of(state), epochs)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Look if that is due after this epoch; the Trainer may load its best weights after the last one."""
        ended = math.ceil((state.epoch or 0) - 1e-6)
        last = control.should_training_stop or state.global_step >= state.max_steps
        diagnosis = self._follow(ended - 1, given["model"], lambda: self._loaders, last=last)
        self._log(state, diagnosis)
        if diagnosis is not None and self.monitor is not None:
            log(state, {"seconds": self.monitor.history[-1]["seconds"]})


class MethodCallback(TrainsByMethod, Checkpointed):
    """Train a model by a method, under its `transformers.Trainer`.

    The model's own loss, that of its output, is used as the joint loss; the method's terms are added to it.
    The output is a `ModelOutput`, a dict with `loss` and `logits`, or a tuple of them. Gradients are edited
    when they are accumulated, after clipping (`max_grad_norm=0` turns it off). Loss terms and coefficients
    are added to `state.log_history` when the Trainer logs; each checkpoint gets a file `equipoise-method.pt`,
    which a resumed training reads. A training of `max_steps` on a set without a length is one epoch.

    Args:
        method: name (`equipoise list methods`), or a method such as `equipoise.methods.OGM(alpha=0.5)`.
        encoders: modality to encoder, or to its path inside the model (`"text"`, `"model.vision"`).
        head: see `equipoise.by_hand`; or a path, or modality to path.
        output: module whose output is the joint logits, or its path; by default the model's output has them.
        options: options of a method that is given by name.
        train_dataset, val_dataset: what a method measures that compares training with validation samples; by
            default the Trainer's, and what it has evaluated on last, as with `eval_on_start=True`.
        resume_from: folder of the checkpoint that training is resumed from, if it is not a folder
            `checkpoint-N` of the Trainer's own output.
        **more: further arguments of `equipoise.by_hand`: `criterion`, `pool`, `task`, `seed`.

    Attributes:
        training: the `equipoise.HandTraining` that does the work, once training has begun.

    Raises:
        UsageError: the method does not exist, or the handles are not modules or paths.
    """

    file = "equipoise-method.pt"

    def __init__(
        self,
        method: str | Method,
        encoders: Handles,
        *,
        head: Any = None,
        output: str | nn.Module | None = None,
        options: Mapping[str, Any] | None = None,
        train_dataset: Dataset[Any] | None = None,
        val_dataset: Dataset[Any] | None = None,
        resume_from: str | Path | None = None,
        **more: Any,
    ) -> None:
        super().__init__(method, encoders, head, output, options, more)
        self.train_dataset, self.val_dataset = train_dataset, val_dataset
        self.resume_from = resume_from
        self._busy = False
        self._measured: Measured | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Try the model, and put the method around its forward pass."""
        model = unwrapped(given["model"])
        if args.label_smoothing_factor:
            raise UsageError(
                "with label_smoothing_factor the Trainer computes the loss itself, and the method's terms "
                "would not reach it; set it to 0, and smooth labels in the model's own loss."
            )
        needed: dict[str, Any] = {}
        if self._validates():
            own = given["train_dataloader"]
            self._measured = Measured(self.train_dataset, self.val_dataset, own, args)
            needed = {"train_eval_loader": self._measured.train, "val_loader": self._measured.val}
        training = self._start(
            model,
            train_loader=given["train_dataloader"],
            optimizer=given["optimizer"],
            scaler=getattr(given["optimizer"], "scaler", None),
            epochs=max(1, int(state.num_train_epochs)) if has_length(given["train_dataloader"]) else 1,
            **needed,
        )
        if kept := self._resumed(args, state, "the method's state is unknown"):
            training.load_state_dict(kept)
        own = model.forward
        self._undo = functools.partial(model.__dict__.pop, "forward")
        if before := model.__dict__.get("forward"):
            self._undo = functools.partial(model.__dict__.update, forward=before)

        @functools.wraps(own)
        def forward(*positional: Any, **inputs: Any) -> Any:
            if self._busy or not model.training or not torch.is_grad_enabled() or positional:
                return own(*positional, **inputs)
            self._busy = True
            try:
                with precision_of(args, model):
                    return self._with_terms(own, inputs)
            finally:
                self._busy = False

        model.__dict__["forward"] = forward

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the method's epoch."""
        training = self._begun()
        training.start_epoch(min(epochs_of(state), training.total_epochs - 1))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Let the method edit the gradients, unscaled where the Trainer scales the loss (`fp16`)."""
        optimizer = given["optimizer"]
        if (scaler := getattr(optimizer, "scaler", None)) and not args.max_grad_norm:
            scaler.unscale_(optimizer.optimizer)  # with clipping, the Trainer has done so
        self._edit_gradients()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """End the method's epoch."""
        if self._measured is not None:
            self._measured.evaluated = given.get("eval_dataloader")
        self._begun().end_epoch()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Log terms and coefficients when the Trainer logs."""
        if self.training is not None and (figures := self.training.figures()):
            log(state, figures)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Restore the model's own forward pass."""
        if self.training is not None:
            self._undo()
            self.training.close()

    def _with_terms(self, own: Callable[..., Any], inputs: dict[str, Any]) -> Any:
        """Return the model's output with the method's terms in its loss."""
        batch = {key: value for key, value in inputs.items() if key != ITEMS}
        results: list[Any] = []

        def compute() -> Any:
            results.append(own(**inputs))
            loss = loss_in(results[-1])
            if loss is None:
                raise ModelError(
                    f"{type(results[-1]).__name__} has no loss: the method needs a model that computes its "
                    "own from labels=, and a batch that has them."
                )
            return {"loss": loss / share, "logits": logits_in(results[-1])}

        # A loss divided by the samples of all accumulated batches is a part of their mean.
        size = len(next(value for value in batch.values() if isinstance(value, torch.Tensor)))
        share = size / inputs[ITEMS] if inputs.get(ITEMS) is not None else 1
        loss = self._begun().loss(batch, compute)
        return with_loss(results[-1], loss * share)
