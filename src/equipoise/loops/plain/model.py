"""A user's model as methods see it: handles of its encoders, and the rest of the model as the fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.diagnosis.features.capture import check_handles
from equipoise.diagnosis.features.reading import BatchReader, logits_in
from equipoise.loops.plain.calls import EncoderCalls, Returned, with_feature
from equipoise.loops.plain.heads import Head, head_view
from equipoise.loops.plain.passes import HandBatch, Pass, loss_in, random_state, set_random_state
from equipoise.models import BalancedModel
from equipoise.models.fusion.head import HeadView
from equipoise.pooling import Pool, pooled_output
from equipoise.scopes import evaluating
from equipoise.types import Batch, ModelError, UsageError


class HandledModel(BalancedModel):
    """A model of any forward signature, with handles of its encoders.

    The user's forward pass is run unchanged, once a step; forward hooks record the features. If a method
    changes features before the fusion, the pass is stopped after the last encoder, and a second pass is run
    in which the encoders return the changed features without running; random numbers are drawn as in one
    pass. Other uses of the fusion are computed by the head if it is additive, else by passes of this kind.

    Its arguments are those of `by_hand`; of `output`, the logits may also be the attribute `logits`.
    """

    def __init__(
        self,
        model: nn.Module,
        encoders: Mapping[str, nn.Module],
        reader: BatchReader,
        *,
        pool: Pool | Mapping[str, Pool] | None = None,
        head: Head | None = None,
        output: nn.Module | None = None,
        task: str = "classification",
    ) -> None:
        super().__init__()
        _check_handles(model, encoders, output)
        self.model, self.task, self.modalities = model, task, tuple(encoders)
        # Tuples, so that modules of the model are not registered a second time.
        self._handles = tuple(encoders.items())
        self._output = (output,)
        self.reader, self.pool, self._head_handle = reader, pool, (head,)
        self._calls = EncoderCalls(encoders)
        self._planned: Pass | None = None
        self.last: Pass | None = None
        self._owners: list[Any] | None = None
        self._widths: dict[str, int] = {}
        self._view: HeadView | None = None

    # The contract of a model -----------------------------------------------------------------------------

    def encoder_module(self, modality: str) -> nn.Module:
        """Return the encoder of a modality."""
        self._require_known([modality])
        return dict(self._handles)[modality]

    def feature_widths(self) -> dict[str, int]:
        """Return the feature width `d_m` of every modality, as found by `trial`."""
        return dict(self._widths)

    @property
    def head(self) -> HeadView | None:
        """The view of the head if one was given, else None."""
        return self._view

    def encode(
        self, batch: Batch | Mapping[str, Tensor], only: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return features `{m: [B, d_m]}`.

        The first call of a step is the user's pass; other calls stop after the encoders.
        """
        assert isinstance(batch, HandBatch)
        planned, self._planned = self._planned, None
        if planned is None:
            z = self._encoded(batch)
        else:
            self._begin(planned)
            self.last, z = planned, planned.features
        return {m: z[m] for m in self.modalities if only is None or m in only}

    def answers_to_zeros(self, batch: Batch | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the features for zeros in place of each encoder's first argument, in evaluation mode."""
        assert isinstance(batch, HandBatch)
        with evaluating(self), self._calls.zeroed():
            return self._encoded(batch)

    def fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        """Return joint logits `[B, C]` of features: those of the step, or changed ones.

        Raises:
            UsageError: the features do not fit the batch of the step.
        """
        last = self.last
        if last is not None and last.logits is None:
            return self._end(last, z)
        if last is not None and not last.split and all(z[m] is own for m, own in last.features.items()):
            assert last.logits is not None
            return last.logits
        if not self.training and self._view is not None:
            return torch.stack([self._view.slice(m, z[m]) for m in self.modalities]).sum(0)
        if last is None:
            raise UsageError("the model has not run in this step; call loss(batch) first.")
        return self._again(last, z)

    # The user's pass ---------------------------------------------------------------------------------------

    def plan(self, step: Pass | None) -> None:
        """Set the pass that the next call of `encode` runs, and free the last one."""
        self._planned, self.last = step, None

    def own_loss(self, logits: Tensor) -> Tensor | None:
        """Return the loss that the user's code computed from these logits, if it did."""
        last = self.last
        if last is None or not last.own or logits is not last.logits:
            return None
        found = loss_in(last.result)
        if found is None:
            raise UsageError(
                f"your step returned a {type(last.result).__name__}; expected its loss: a scalar tensor, or "
                "an output with the entry 'loss'."
            )
        return found

    def trial(self, batch: HandBatch) -> None:
        """Run the model once in evaluation mode, to find widths and dtype, and to check handles and head.

        Raises:
            ModelError: a handle is not called once, a feature is not `[B, d]`, the logits are not found, or
                are not the output of the head for the features.
        """
        with torch.no_grad(), evaluating(self):
            step = Pass(batch, lambda: self.reader.run(self.model, batch.pieces[0]))
            self._begin(step)
        assert step.logits is not None
        self._widths = {m: int(z.shape[1]) for m, z in step.features.items()}
        dtypes = [z.dtype for z in step.features.values()]
        if self._calls.autocast is not None:  # it casts the weights of layers
            dtypes.append(torch.float32)
        self.dtype = reduce(torch.promote_types, dtypes)
        self.num_outputs = int(step.logits.shape[1]) if step.logits.ndim > 1 else 1
        with torch.no_grad(), self.autocast():
            self._view = head_view(self._head_handle[0], self._widths, step.features, step.logits)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the precision of the last pass."""
        found = self._calls.autocast
        return nullcontext() if found is None else torch.autocast(found[0], dtype=found[1])

    def _begin(self, step: Pass) -> None:
        """Run the pass, or its first half up to the last encoder."""
        if step.split:
            step.streams.append(random_state(step.batch.target.device.type))
        caught: list[Any] = []
        with self._calls.recorded(stop=step.split) as found:
            self._compute(step, caught)
        if step.split:
            step.streams.append(random_state(step.batch.target.device.type))
        else:
            step.logits = self._logits(caught, step)
        step.raw = {m: returned.output for m, returned in found.items()}
        step.features = {m: self._feature(m, found[m], len(step.batch)) for m in self.modalities}
        step.held = step.features

    def _end(self, step: Pass, z: Mapping[str, Tensor]) -> Tensor:
        """Run the second half of a split pass, after the encoders, on other features; returns the logits."""
        outputs = {m: with_feature(step.raw[m], step.held[m], z[m], m) for m in self.modalities}
        before, after = step.streams
        set_random_state(before)
        caught: list[Any] = []
        with self._calls.replaced(outputs, lambda: set_random_state(after)):
            self._compute(step, caught)
        step.logits = self._logits(caught, step)
        return step.logits

    def _compute(self, step: Pass, caught: list[Any]) -> None:
        """Run the user's code, and add the outputs of the logits' module to `caught`."""
        output = self._output[0] or self.model
        hook = output.register_forward_hook(lambda _, __, value: caught.append(value))
        try:
            step.result = step.compute()
        finally:
            hook.remove()

    def _again(self, step: Pass, z: Mapping[str, Tensor]) -> Tensor:
        """Run the model after the encoders on features, in blocks if there are more rows than samples."""
        size, rows = len(step.batch), len(next(iter(z.values())))
        if rows % size or not step.batch.sizes:
            raise UsageError(
                f"the fusion cannot be run for {rows} features, as this process has a batch of "
                f"{sum(step.batch.sizes) or 'other'} samples; give head=, the linear layer that reads the "
                "features."
            )
        return torch.cat(
            [self._block(step, {m: x[at : at + size] for m, x in z.items()}) for at in range(0, rows, size)]
        )

    def _block(self, step: Pass, z: Mapping[str, Tensor]) -> Tensor:
        found, at = [], 0
        for piece, size in zip(step.batch.pieces, step.batch.sizes, strict=True):
            rows = slice(at, at + size)
            at += size
            outputs = {m: with_feature(step.raw[m], step.held[m], z[m][rows], m) for m in self.modalities}
            with self._calls.replaced(outputs):
                found.append(self.reader.logits(self.model, piece))
        return torch.cat(found)

    def _encoded(self, batch: HandBatch) -> dict[str, Tensor]:
        parts: dict[str, list[Tensor]] = {m: [] for m in self.modalities}
        if batch.pieces and not batch.sizes:
            raise UsageError(
                "the method encodes the samples of a step again, and some are in other processes; train in "
                "one process, or choose another method."
            )
        for piece, size in zip(batch.pieces, batch.sizes, strict=True):
            with self._calls.recorded(stop=True) as found:
                self.reader.run(self.model, piece)
            for m in self.modalities:
                parts[m].append(self._feature(m, found[m], size))
        return {m: z[0] if len(z) == 1 else torch.cat(z) for m, z in parts.items()}

    def _feature(self, modality: str, returned: Returned, size: int) -> Tensor:
        return pooled_output(modality, returned.output, size, self.pool, returned.mask)

    def _logits(self, caught: list[Any], step: Pass) -> Tensor:
        logits = logits_in(caught[-1] if caught else step.result)
        if not isinstance(logits, Tensor) or not logits.ndim or len(logits) != len(step.batch):
            shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ModelError(
                f"the joint logits of {len(step.batch)} samples were not found: the pass gave {shape}; "
                "give output=, the module that returns them, such as model.head."
            )
        return logits

    def _owned(self) -> list[Any]:
        """Return every parameter with its users; cached, as it is needed in every step."""
        if self._owners is None:
            self._owners = super()._owned()
        return self._owners


def _check_handles(model: nn.Module, encoders: Mapping[str, nn.Module], output: nn.Module | None) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"the model is a {type(model).__name__}; expected a torch module.")
    check_handles(encoders, model)
    if output is not None:
        check_handles({"output": output}, model)
    if hasattr(model, "_orig_mod"):
        raise ModelError(
            "the whole model is compiled, so that its features cannot be read; compile its encoders and its "
            "head instead: model.audio_net = torch.compile(model.audio_net)."
        )
