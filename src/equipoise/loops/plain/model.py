"""Anybody's model as methods see it: encoders behind handles, and whatever comes after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.diagnosis.features.reading import BatchReader, Pool, pooled_output
from equipoise.loops.plain.batch import HandBatch
from equipoise.loops.plain.calls import EncoderCalls, Returned, with_feature
from equipoise.loops.plain.heads import Head, head_view
from equipoise.loops.plain.passes import Pass, loss_in, random_state, set_random_state
from equipoise.models import BalancedModel
from equipoise.models.fusion.head import HeadView
from equipoise.scopes import evaluating
from equipoise.types import Batch, ModelError, UsageError


class HandledModel(BalancedModel):
    """A model of any forward signature, seen through handles of its encoders.

    The user's forward pass is run as it is, once a step; hooks see the features on their way. Where a method
    changes features before they are fused, the pass ends when the last encoder has run, and a second one is
    made in which encoders return the changed features without running; random numbers are drawn as in one
    pass. What else a method asks of the fusion is answered by the head where it is additive, else by passes
    of the same kind.

    Args:
        model: the user's.
        encoders: modality to module inside it.
        reader: how batches are read and given to the model.
        pool: from an encoder's output to `[B, d]`, for all encoders or by name.
        head: see `equipoise.loops.plain.heads.head_view`.
        output: module whose output are the joint logits, or has them as `logits`; None is the model.
        task: what the logits are for.
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
        # Tuples, as they are inside the model already and must not be registered a second time.
        self._handles = tuple(encoders.items())
        self._output = (output,)
        self.reader, self._pool, self._head_handle = reader, pool, (head,)
        self._calls = EncoderCalls(encoders)
        self._planned: Pass | None = None
        self._last: Pass | None = None
        self._owners: list[Any] | None = None
        self._widths: dict[str, int] = {}
        self._view: HeadView | None = None

    # What methods ask for --------------------------------------------------------------------------------

    def encoder_module(self, modality: str) -> nn.Module:
        """Return the encoder of a modality."""
        self._require_known([modality])
        return dict(self._handles)[modality]

    def feature_widths(self) -> dict[str, int]:
        """Return the feature width `d_m` of every modality, as the trial found it."""
        return dict(self._widths)

    @property
    def head(self) -> HeadView | None:
        """The view of the head where one was given, else None."""
        return self._view

    def encode(
        self, batch: Batch | Mapping[str, Tensor], only: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return features `{m: [B, d_m]}`.

        The first call of a step is the user's pass itself; others end when the encoders have run.
        """
        assert isinstance(batch, HandBatch)
        planned, self._planned = self._planned, None
        if planned is not None:
            self._last = planned
            self._begin(planned)
            z = planned.features
        else:
            z = self._encoded(batch)
        return {m: z[m] for m in self.modalities if only is None or m in only}

    def answers_to_zeros(self, batch: Batch | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the features of zeros in place of each encoder's first argument, in evaluation mode."""
        assert isinstance(batch, HandBatch)
        with evaluating(self), self._calls.zeroed():
            return self._encoded(batch)

    def fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        """Return joint logits `[B, C]` of features: those of the step itself, or of changed ones.

        Raises:
            ModelError: the features do not fit the batch of the step.
        """
        last = self._last
        if last is not None and self._same(z, last) and not last.split:
            assert last.logits is not None
            return last.logits
        if last is not None and last.split and last.logits is None:
            return self._end(last, z)
        if not self.training and self._view is not None:
            return torch.stack([self._view.slice(m, z[m]) for m in self.modalities]).sum(0)
        if last is None:
            raise UsageError("the model has not run in this step; call loss(batch) first.")
        return self._again(last, z)

    # The user's pass ---------------------------------------------------------------------------------------

    def plan(self, step: Pass) -> None:
        """Say what the next call of `encode` runs."""
        self._planned, self._last = step, None

    def forget(self) -> None:
        """Let go of the last step's graph."""
        self._planned = self._last = None

    def looks_at(self, step: Pass) -> None:
        """Take a step for the last one, for what is asked of the fusion behind it."""
        self._last = step

    def own_loss(self, logits: Tensor) -> Tensor | None:
        """Return the loss that the user's code computed itself of these very logits, if it did."""
        last = self._last
        if last is None or not last.own or logits is not last.logits:
            return None
        found = loss_in(last.result)
        if found is None:
            raise UsageError(
                f"your step returned a {type(last.result).__name__}; expected its loss: a number, or what "
                "has it as 'loss'."
            )
        return found

    def trial(self, batch: HandBatch) -> None:
        """Run the model once in evaluation mode, to learn widths, and to check handles and head.

        Raises:
            ModelError: a handle is not called once, a feature is not `[B, d]`, the logits are not found, or
                the head does not make them of the features.
        """
        with torch.no_grad(), evaluating(self):
            step = Pass(batch, lambda: self.reader.run(self.model, batch.pieces[0]))
            self._begin(step)
        assert step.logits is not None
        self._widths = {m: int(z.shape[1]) for m, z in step.features.items()}
        self.num_outputs = int(step.logits.shape[1]) if step.logits.ndim > 1 else 1
        self._view = head_view(self._head_handle[0], self._widths, step.features, step.logits)

    def _begin(self, step: Pass) -> None:
        """Run the pass, or its part up to the last encoder."""
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
        """Run the part of a split pass behind the encoders, on other features; returns the logits."""
        outputs = {m: with_feature(step.raw[m], step.held[m], z[m], m) for m in self.modalities}
        begin, behind = step.streams
        set_random_state(begin)
        caught: list[Any] = []
        with self._calls.replaced(outputs, lambda: set_random_state(behind)):
            self._compute(step, caught)
        step.logits = self._logits(caught, step)
        return step.logits

    def _compute(self, step: Pass, caught: list[Any]) -> None:
        """Run the user's code, and put what the module of the logits returns into `caught`."""
        output = self._output[0] or self.model
        hook = output.register_forward_hook(lambda _, __, value: caught.append(value))
        try:
            step.result = step.compute()
        finally:
            hook.remove()

    def _again(self, step: Pass, z: Mapping[str, Tensor]) -> Tensor:
        """Run what is behind the encoders on features, block by block where there are more than samples."""
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
                "the method looks at the samples of a step again, and some are in other processes; train in "
                "one process, or choose another method."
            )
        for piece, size in zip(batch.pieces, batch.sizes, strict=True):
            with self._calls.recorded(stop=True) as found:
                self.reader.run(self.model, piece)
            for m in self.modalities:
                parts[m].append(self._feature(m, found[m], size))
        return {m: z[0] if len(z) == 1 else torch.cat(z) for m, z in parts.items()}

    def _feature(self, modality: str, returned: Returned, size: int) -> Tensor:
        return pooled_output(modality, returned.output, size, self._pool, returned.mask)

    def _logits(self, caught: list[Any], step: Pass) -> Tensor:
        value = caught[-1] if caught else step.result
        logits = getattr(value, "logits", value)
        if isinstance(logits, Mapping) and "logits" in logits:
            logits = logits["logits"]
        if not isinstance(logits, Tensor) or not logits.ndim or len(logits) != len(step.batch):
            shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ModelError(
                f"the joint logits of {len(step.batch)} samples were not found: the pass gave {shape}; "
                "give output=, the module that returns them, such as model.head."
            )
        return logits

    @staticmethod
    def _same(z: Mapping[str, Tensor], step: Pass) -> bool:
        return bool(step.features) and all(z[m] is feature for m, feature in step.features.items())

    def _owned(self) -> list[Any]:
        """Return every parameter with its users; found once, as methods ask in every step."""
        if self._owners is None:
            self._owners = super()._owned()
        return self._owners


def _check_handles(model: nn.Module, encoders: Mapping[str, nn.Module], output: nn.Module | None) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"the model is a {type(model).__name__}; expected a torch module.")
    if not encoders:
        raise UsageError("no encoder was given; expected a mapping from modality name to module.")
    inside = set(model.modules())
    for name, module in {**encoders, **({"output": output} if output is not None else {})}.items():
        if not isinstance(module, nn.Module):
            raise UsageError(f"the handle of {name!r} is a {type(module).__name__}; expected a module.")
        if module not in inside:
            raise ModelError(
                f"the handle of {name!r} ({type(module).__name__}) is no part of the model "
                f"({type(model).__name__}); expected one of its submodules."
            )
    if hasattr(model, "_orig_mod"):
        raise ModelError(
            "the whole model is compiled, so that its features cannot be seen; compile its encoders and its "
            "head instead: model.audio_net = torch.compile(model.audio_net)."
        )
