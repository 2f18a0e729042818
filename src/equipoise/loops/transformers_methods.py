"""Any method that fits a standard step as a callback of the Trainer of transformers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from equipoise.distributed import unwrapped
from equipoise.loops.handles import Handles, check_handles, head_resolved, one_resolved, resolved
from equipoise.loops.plain import HandTraining, by_hand
from equipoise.loops.trainer_files import checkpoint_folder, precision, read_state, write_state
from equipoise.methods import Method, create_method
from equipoise.types import EquipoiseError, MissingExtraError, ModelError, UsageError

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError as error:
    raise MissingExtraError("transformers", "transformers", "equipoise.loops.transformers") from error

STATE = "equipoise-method.pt"
"""Name of the callback's file in a checkpoint's folder."""

ITEMS = "num_items_in_batch"
"""What the Trainer gives to models that divide their loss by the samples of all accumulated batches."""


class MethodCallback(TrainerCallback):
    """Train a model by a method, under its `transformers.Trainer`.

    The model's own loss, that of its output, stands for the joint loss; what the method adds is put into it.
    Gradients are edited when they are accumulated, behind the Trainer's clipping (`max_grad_norm=0` does
    without). Loss terms and coefficients are put into `state.log_history` whenever the Trainer logs; each
    checkpoint gets a file `equipoise-method.pt`, which a resumed training reads.

    Args:
        method: name (`equipoise list methods`), or a method such as `equipoise.methods.OGM(alpha=0.5)`.
        encoders: modality to encoder, or to its path inside the model (`"text"`, `"model.vision"`).
        head: see `equipoise.by_hand`; or a path, or modality to path.
        output: module whose output are the joint logits, or its path; by default the model's output has them.
        options: options of a method that is given by name.
        resume_from: folder of the checkpoint that training is resumed from, where that is no folder
            `checkpoint-N` of the Trainer's own output.
        **more: further arguments of `equipoise.by_hand`: `criterion`, `pool`, `task`, `seed`.

    Attributes:
        training: the `equipoise.HandTraining` that does the work, once training has begun.

    Raises:
        UsageError: the method does not exist, or the handles are no modules or paths.
    """

    def __init__(
        self,
        method: str | Method,
        encoders: Handles,
        *,
        head: Any = None,
        output: str | nn.Module | None = None,
        options: Mapping[str, Any] | None = None,
        resume_from: str | Path | None = None,
        **more: Any,
    ) -> None:
        check_handles(encoders)
        self.method = create_method(method, options) if isinstance(method, str) else method
        self.encoders, self.head, self.output = dict(encoders), head, output
        self.resume_from, self.more = resume_from, more
        self.training: HandTraining | None = None
        self._busy = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Try the model, and put the method around its forward pass."""
        model, optimizer = unwrapped(given["model"]), given["optimizer"]
        if args.label_smoothing_factor:
            raise UsageError(
                "with label_smoothing_factor the Trainer computes the loss itself, and the method's terms "
                "would not reach it; set it to 0, and smooth labels in the model's own loss."
            )
        self.training = by_hand(
            self.method,
            model,
            resolved(self.encoders, model),
            head=head_resolved(self.head, model),
            output=None if self.output is None else one_resolved(self.output, model, "output"),
            train_loader=given["train_dataloader"],
            optimizer=getattr(optimizer, "optimizer", optimizer),  # inside the wrapper of accelerate
            epochs=max(1, int(state.num_train_epochs)),
            **self.more,
        )
        if state.global_step:
            folder = self.resume_from or checkpoint_folder(args, state)
            self.training.load_state_dict(
                read_state(folder, STATE, "what the method has learnt is not known")
            )
        own = model.forward
        self._undo = functools.partial(_restore, model, model.__dict__.get("forward"))

        @functools.wraps(own)
        def forward(*positional: Any, **inputs: Any) -> Any:
            if self._busy or not model.training or not torch.is_grad_enabled() or positional:
                return own(*positional, **inputs)
            self._busy = True
            try:
                with precision(args, model):
                    return self._with_terms(own, inputs)
            finally:
                self._busy = False

        model.__dict__["forward"] = forward

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Begin the method's epoch."""
        self._begun().start_epoch(int((state.epoch or 0) + 1e-6))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Let the method edit the gradients."""
        if self._begun().pending:
            self._begun().on_gradients()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """End the method's epoch."""
        self._begun().end_epoch()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Put terms and coefficients beside what the Trainer logs."""
        if self.training is not None and (figures := self.training.figures()):
            named = {f"equipoise/{name}": value for name, value in figures.items()}
            state.log_history.append({**named, "epoch": state.epoch, "step": state.global_step})

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Put the callback's file into the checkpoint."""
        if self.training is not None:
            write_state(args, state, STATE, self.training.state_dict())

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Give the model its own forward pass back."""
        if self.training is not None:
            self._undo()
            self.training.close()

    def _with_terms(self, own: Callable[..., Any], inputs: dict[str, Any]) -> Any:
        """Return the model's output with the method's terms in its loss."""
        batch = {key: value for key, value in inputs.items() if key != ITEMS}
        results: list[Any] = []

        def compute() -> Any:
            results.append(own(**inputs))
            loss = getattr(results[-1], "loss", None)
            if loss is None:
                raise ModelError(
                    f"{type(results[-1]).__name__} has no loss: the method needs a model that computes its "
                    "own from labels=, and a batch that has them."
                )
            results[-1].loss = loss / share
            return results[-1]

        # A loss that is divided by the samples of all accumulated batches is a part of their mean.
        size = len(next(value for value in batch.values() if isinstance(value, torch.Tensor)))
        share = size / inputs[ITEMS] if inputs.get(ITEMS) is not None else 1
        loss = self._begun().loss(batch, compute)
        results[-1].loss = loss * share
        return results[-1]

    def _begun(self) -> HandTraining:
        if self.training is None:
            raise EquipoiseError("the callback has not seen training begin; give it to Trainer(callbacks=).")
        return self.training


def _restore(model: nn.Module, own: Any) -> None:
    if own is None:
        del model.__dict__["forward"]
    else:
        model.__dict__["forward"] = own
