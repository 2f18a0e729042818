"""A user-defined training loop as its method sees it: the protocol `equipoise.methods.Run`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, IterableDataset

from equipoise.diagnosis.features.reading import (
    BatchReader,
    device_of,
    first_batches,
    source_of,
    untouched_generators,
)
from equipoise.diagnosis.features.transferred import Transferred
from equipoise.distributed import process_count
from equipoise.loops.plain.model import HandledModel
from equipoise.loops.plain.passes import HandBatch
from equipoise.methods.core.combination import build_modules
from equipoise.methods.core.method import Method
from equipoise.methods.core.run import Counters
from equipoise.randomness import derive_seed, isolated_rng
from equipoise.relearning.relearner import DiagnoseRelearn
from equipoise.tasks import task_named
from equipoise.types import UsageError

USUAL_BATCH = 64
"""Samples that are read at once, if the loader has no batch size."""

NOT_OPTIONS = ("params", "name", "initial_lr", "factor")

Criterion = Callable[[Tensor, Tensor], Tensor]
Batches = Iterable[Any] | Callable[[], Iterable[Any]]
"""A loader, or a function that returns it when its batches are needed."""


class AllOptimizers:
    """The parameter groups of several optimisers."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]


class HandRun:
    """One training in a user-defined loop, see `equipoise.methods.Run`; for its arguments see `by_hand`."""

    def __init__(
        self,
        method: Method,
        model: HandledModel,
        optimizers: Sequence[Optimizer],
        loader: Iterable[Any],
        epochs: int,
        seed: int,
        criterion: Criterion | None,
        val_loader: Batches | None = None,
        train_eval_loader: Batches | None = None,
    ) -> None:
        self.method, self.model, self.loader = method, model, loader
        self._val_loader, self._train_eval_loader = val_loader, train_eval_loader
        self._own, self.seed, self.processes = list(optimizers), seed, process_count()
        self._criterion = criterion or task_named(model.task).loss
        self.device = device_of(model)
        self.total_epochs = epochs
        self.epoch, self.step = 0, 0
        self.learning_rates = [own_rate(self._own[0].param_groups[0])] * epochs
        self.counters = Counters()
        self.generator = self.stream(method.name)
        self.events: list[dict[str, Any]] = []
        self._target: Tensor | None = None
        self.plan = _Plan(epochs, type(self._own[0]).__name__.lower(), self.learning_rates)
        self.modules = build_modules(method, self.model, self.plan, seed).to(self.device, model.dtype)
        self.optimizer: Any = AllOptimizers(self._own)

    # Diagnosing & Re-learning ------------------------------------------------------------------------------

    @property
    def whole(self) -> nn.Module:
        """The user's model."""
        return self.model.model

    @property
    def train_eval(self) -> Iterable[Any]:
        """The training batches that are measured; by default the user's, within the limit of a trainer."""
        if (held := self._train_eval_loader) is not None:
            return held() if callable(held) else held
        return limited(self.loader) if isinstance(self.loader, Transferred) else self.loader

    @property
    def val(self) -> Iterable[Any]:
        """The batches of the user's loader of validation samples; none without it."""
        held = () if self._val_loader is None else self._val_loader
        return held() if callable(held) else held

    def relearner(self, *schedule: Any, **options: Any) -> DiagnoseRelearn:
        """Return Diagnosing & Re-learning of the encoders."""
        model, reader = self.model, self.model.reader
        return DiagnoseRelearn(
            {m: model.encoder_module(m) for m in model.modalities},
            *schedule,
            optimizer=self._own,
            pool=model.pool,
            inputs_of=reader.inputs_of,
            target_of=reader.target_of,
            forward=reader.forward,
            **options,
        )

    # Data ------------------------------------------------------------------------------------------------

    def take(self, positions: Sequence[int]) -> HandBatch:
        """Return training samples by their positions in the dataset."""
        self._indexed()
        return taken(self.loader, positions, self.model.reader)

    @property
    def train_target(self) -> Tensor:
        """The target of each training sample, read once by a pass over the dataset."""
        if self._target is None:
            size, chunk = self.train_size, self.batch_size
            parts = [self.take(range(at, min(at + chunk, size))).target for at in range(0, size, chunk)]
            self._target = torch.cat(parts).cpu()
        return self._target

    @property
    def train_size(self) -> int:
        """Samples of the training split."""
        return len(self._indexed().dataset)  # type: ignore[arg-type]

    @property
    def batch_size(self) -> int:
        """Samples of a batch."""
        loader = self._indexed()
        return int(loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or USUAL_BATCH)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        try:
            return len(self.loader)  # type: ignore[arg-type]
        except TypeError:
            raise UsageError(
                f"the method {self.method.name!r} needs the number of batches of an epoch; give a "
                "train_loader with a length."
            ) from None

    def _indexed(self) -> DataLoader[Any]:
        if _is_indexed(inside := source_of(self.loader)):
            return inside
        raise UsageError(
            f"the method {self.method.name!r} reads samples by their position; give a train_loader that "
            "is a DataLoader over a dataset with a length and items."
        )

    # The step --------------------------------------------------------------------------------------------

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss that is minimised; for the logits of the step, the loss of the user's code."""
        own = self.model.own_loss(logits)
        return self._criterion(logits, target) if own is None else own

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """Return what the method's forward pass computes."""
        return compute()

    def backward(self, loss: Tensor) -> None:
        """Backpropagate a loss."""
        loss.backward()  # type: ignore[no-untyped-call]

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the step's forward pass."""
        return self.model.autocast()

    @property
    def overflowed(self) -> bool:
        """Never, as the loop skips steps itself."""
        return False

    def clip_gradients(self) -> None:
        """Do nothing, as the loop clips."""

    def fresh_optimizer(self, parameters: Iterable[Any]) -> Optimizer:
        """Return another optimiser of the type and options of the first one's first group.

        Raises:
            UsageError: its constructor has other arguments.
        """
        kind = type(self._own[0])
        accepted = set(inspect.signature(kind).parameters) - set(NOT_OPTIONS)
        options = {key: value for key, value in self._own[0].param_groups[0].items() if key in accepted}
        try:
            return kind(parameters, **options)
        except TypeError as error:
            raise UsageError(
                f"a second {kind.__name__} for the method's own modules could not be made ({error}); "
                "give extra_optimizer=, a function from parameters to an optimiser."
            ) from error

    def count_passes(self, module: nn.Module) -> None:
        """Do nothing, as passes are not counted in a user-defined loop."""

    def stream(self, method: str) -> torch.Generator:
        """Return a new random stream for a method of that name."""
        return torch.Generator().manual_seed(derive_seed(self.seed, "method", method))

    def own_time(self) -> AbstractContextManager[Any]:
        """Measure nothing."""
        return nullcontext()

    def record(self, kind: str, **values: Any) -> None:
        """Add an event to `HandTraining.history`."""
        self.events.append({"event": kind, "epoch": self.epoch, **values})


class _Plan:
    """See `equipoise.methods.Plan`; the learning rate is assumed to stay constant."""

    def __init__(self, epochs: int, optimizer: str, rates: list[float]) -> None:
        self.epochs, self.optimizer, self._rates = epochs, optimizer, rates

    def learning_rates(self) -> list[float]:
        return self._rates


def own_rate(group: Mapping[str, Any]) -> float:
    """Return the learning rate that the user gave a group of parameters, before any scheduler."""
    return float(group.get("initial_lr", group["lr"]))


def limited(batches: Transferred) -> Transferred:
    """Return batches of which those within the trainer's limit can be read in the order of the dataset."""
    if batches.length is None:
        return batches
    return replace(batches, loader=first_batches(batches.loader, batches.length))


def example_of(loader: Iterable[Any], reader: BatchReader) -> HandBatch:
    """Return a small batch to try a model on, without changing the loader or the random streams.

    Raises:
        UsageError: the loader has no batch.
    """
    if _is_indexed(inside := source_of(loader)):
        return taken(loader, range(min(2, len(inside.dataset))), reader)  # type: ignore[arg-type]
    with isolated_rng(), untouched_generators(loader):
        raw = next(iter(loader), None) if hasattr(loader, "__iter__") else None
    if raw is None:
        raise UsageError("the training loader gives no batch; expected at least one.")
    return HandBatch.of(raw, reader)


def taken(loader: Any, positions: Sequence[int], reader: BatchReader) -> HandBatch:
    """Return samples of a loader's dataset by position, collated by the loader."""
    inside = source_of(loader)
    with isolated_rng():
        raw = inside.collate_fn([inside.dataset[i] for i in positions])
        return HandBatch.of(loader.transfer(raw) if isinstance(loader, Transferred) else raw, reader)


def _is_indexed(loader: Iterable[Any]) -> TypeGuard[DataLoader[Any]]:
    return (
        isinstance(loader, DataLoader)
        and loader.batch_sampler is not None  # otherwise a sample is already a batch
        and not isinstance(loader.dataset, IterableDataset)
        and hasattr(loader.dataset, "__len__")
    )
