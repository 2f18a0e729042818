"""What a method may see and use of the training that it takes part in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from equipoise.types import Batch

if TYPE_CHECKING:
    from equipoise.methods.core.step import StepContext
    from equipoise.models import BalancedModel


@dataclass
class Counters:
    """Work done by a run, for a like-for-like account of cost.

    Nobody counts by hand: the training watches the encoders. What evaluation and the looks in between take is
    the same for all methods and stands outside.

    Attributes:
        forward_passes: samples passed forward through an encoder, added up over the encoders.
        backward_passes: samples passed backward through an encoder, likewise.
        method_seconds: time spent in the method's own hooks.
    """

    forward_passes: int = 0
    backward_passes: int = 0
    method_seconds: float = 0.0


class Plan(Protocol):
    """The training that is planned, as far as it matters to a method before it begins."""

    @property
    def epochs(self) -> int:
        """Passes over the training split."""

    @property
    def optimizer(self) -> str:
        """Name of the optimiser."""

    def learning_rates(self) -> Sequence[float]:
        """Return the learning rate of each epoch."""


class Run(Protocol):
    """The training that a method takes part in; there is no way from here to the test split.

    Attributes:
        model: the model that is trained, on `device`.
        modules: the method's own modules by name (`Method.extra_modules`), on `device`.
        optimizer: over the parameters of both. Its groups carry a `name`, the modality's for its encoder,
            `fusion` or `extra`, and a `factor` by which the planned learning rate is multiplied.
        device: where batches and modules are.
        generator: the method's own random stream, on the CPU.
        counters: the work done.
        epoch: 0-based.
        step: optimiser steps before this one.
        total_epochs: planned passes over the training split.
        learning_rates: planned learning rate of each epoch.
        train_target: class of each training sample `[N]`, by position in the split, on the CPU.
        train_size: samples of the training split.
        batch_size: samples of a batch, the last one's perhaps excepted.
        steps_per_epoch: batches of an epoch.
    """

    model: BalancedModel
    modules: nn.ModuleDict
    optimizer: Optimizer
    device: torch.device
    generator: torch.Generator
    counters: Counters
    epoch: int
    step: int
    total_epochs: int
    learning_rates: Sequence[float]
    train_target: Tensor
    train_size: int
    batch_size: int
    steps_per_epoch: int

    @property
    def train(self) -> Iterable[Batch]:
        """The training batches, in the order of the epoch."""

    @property
    def train_eval(self) -> Iterable[Batch]:
        """The training batches as evaluation sees them: all samples, in the split's order, not augmented."""

    @property
    def val(self) -> Iterable[Batch]:
        """The validation batches."""

    def take(self, positions: Sequence[int]) -> Batch:
        """Return training samples by their positions in the split (the order of `train_eval`), on the CPU.

        They are augmented, where the run's batches are, while the model is in training mode: what a method
        measures in evaluation mode it measures on the samples as they are.
        """

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss that is minimised, the mean over the batch: what stands for `CE(u, y)` in formulas.

        It is the task's (`equipoise.tasks`), or one that the loop brings.
        """

    def forward(self, context: StepContext) -> Tensor:
        """Run `method.forward` as the strategy and precision of the training ask for."""

    def backward(self, loss: Tensor) -> None:
        """Propagate a loss back."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision under which losses are computed."""

    def clip_gradients(self) -> None:
        """Clip the gradients as configured."""

    def fresh_optimizer(self, parameters: Iterable[Any]) -> Optimizer:
        """Return another optimiser of the configured kind, over parameters or groups of them."""

    def count_passes(self, module: nn.Module) -> None:
        """Count what passes through a module as passes of one encoder, a frozen teacher's for instance."""

    def stream(self, method: str) -> torch.Generator:
        """Return a new random stream for a method of that name; `generator` is that of the run's method."""

    def own_time(self) -> AbstractContextManager[Any]:
        """Count the time of a block as the method's."""

    def record(self, kind: str, **values: Any) -> None:
        """Write an event into the run record."""
