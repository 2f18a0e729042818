"""What a method may see and use of the training that it takes part in, and of one step of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from equipoise.models import BalancedModel, OwnHeads, unimodal_logits
from equipoise.types import Batch, EquipoiseError

if TYPE_CHECKING:
    from equipoise.relearning.relearner import DiagnoseRelearn


@dataclass
class Counters:
    """Work done by a run, so that costs of methods can be compared.

    Methods do not count: the training watches the encoders. Evaluation, which is the same for all methods, is
    left out.

    Attributes:
        forward_passes: samples passed forward through an encoder, summed over the encoders.
        backward_passes: samples passed backward through an encoder, likewise.
        method_seconds: time spent in the method's own hooks.
    """

    forward_passes: int = 0
    backward_passes: int = 0
    method_seconds: float = 0.0


class Plan(Protocol):
    """What a method needs to know of the training before it begins."""

    @property
    def epochs(self) -> int:
        """Passes over the training split."""

    @property
    def optimizer(self) -> str:
        """Name of the optimiser."""

    def learning_rates(self) -> Sequence[float]:
        """Return the learning rate of each epoch."""


class Run(Protocol):
    """The training that a method takes part in; it gives no access to the test split.

    Attributes:
        model: the model that is trained, on `device`.
        modules: the method's own modules by name (`Method.extra_modules`), on `device`.
        optimizer: over the parameters of both. Its groups have a `name` (the modality of an encoder, `fusion`
            or `extra`) and a `factor` that multiplies the planned learning rate.
        device: where batches and modules are.
        generator: the method's own random stream, on the CPU.
        counters: the work done.
        epoch: 0-based.
        step: optimiser steps before this one.
        total_epochs: planned passes over the training split.
        learning_rates: learning rate of each epoch, see `Method.learning_rates`.
        train_target: class of each training sample `[N]`, by position in the split, on the CPU.
        train_size: samples of the training split.
        batch_size: samples of a batch; the last one may be smaller.
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
    def whole(self) -> nn.Module:
        """The module that is called on the batches of `train_eval` and `val`."""

    @property
    def train(self) -> Iterable[Batch]:
        """The training batches, in the order of the epoch."""

    @property
    def train_eval(self) -> Iterable[Batch]:
        """The training batches for evaluation: all samples, in the order of the split, not augmented."""

    @property
    def val(self) -> Iterable[Batch]:
        """The validation batches."""

    def take(self, positions: Sequence[int]) -> Batch:
        """Return training samples by their positions in the split (the order of `train_eval`), on the CPU.

        They are augmented like the run's batches while the model is in training mode, and not augmented in
        evaluation mode.
        """

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss that is minimised, the mean over the batch: `CE(u, y)` in the formulas.

        It is the loss of the task (`equipoise.tasks`), or one given by the training loop.
        """

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """Return what a forward pass computes, under the strategy and precision of the training."""

    def backward(self, loss: Tensor) -> None:
        """Backpropagate a loss."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision under which losses are computed."""

    @property
    def overflowed(self) -> bool:
        """Whether the step of the last backward pass will be skipped, as a gradient is not finite.

        It happens under loss scaling only.
        """

    def clip_gradients(self) -> None:
        """Clip the gradients as configured."""

    def fresh_optimizer(self, parameters: Iterable[Any]) -> Optimizer:
        """Return another optimiser of the configured kind, over parameters or groups of them."""

    def count_passes(self, module: nn.Module) -> None:
        """Count the passes of a module, such as a frozen teacher, as passes of one encoder."""

    def stream(self, method: str) -> torch.Generator:
        """Return a new random stream for a method of that name; `generator` is that of the run's method."""

    def own_time(self) -> AbstractContextManager[Any]:
        """Count the time of a block as the method's."""

    def relearner(self, *schedule: Any, **options: Any) -> DiagnoseRelearn:
        """Return Diagnosing & Re-learning of the run's encoders; see there for the arguments."""

    def record(self, kind: str, **values: Any) -> None:
        """Write an event into the run record."""


class StepContext:
    """What the hooks of a step share.

    Attributes:
        run: the training.
        batch: the batch, on the run's device.
        active: the modalities that take part in this pass, for methods that train one modality after the
            other; None for all.
        features: modality to encoded feature `[B, d_m]`, with its graph, once the model has run; read by
            scores, distillation and unimodal losses.
        z: the features as the fusion reads them: edited by the method, for example masked.
        u: joint logits `[B, C]`, once the model has run.
    """

    def __init__(self, run: Run, batch: Batch, active: tuple[str, ...] | None = None) -> None:
        self.run, self.batch, self.active = run, batch, active
        self.features: dict[str, Tensor] = {}
        self.z: dict[str, Tensor] = {}
        self.u: Tensor = torch.empty(0)

    def unimodal_logits(
        self,
        source: str = "slice",
        *,
        detached: bool = False,
        head_grad: bool = True,
    ) -> dict[str, Tensor]:
        """Return `u^m [B, C]` of each modality by a source of `equipoise.models.unimodal_logits`.

        The source `aux` reads the run's module `heads`.

        Args:
            source: where the logits come from.
            detached: return scores without gradient.
            head_grad: whether gradients reach the head that is read.
        """
        if not self.features:
            raise EquipoiseError(
                "the model has not run in this step; unimodal logits are available after encoding."
            )
        with self.run.autocast(), torch.set_grad_enabled(torch.is_grad_enabled() and not detached):
            z = self.features
            if detached:
                z = {name: feature.detach() for name, feature in z.items()}
            heads = own_heads(self.run).by_modality() if source == "aux" else None
            return unimodal_logits(
                self.run.model, z, source, batch=self.batch, heads=heads, head_grad=head_grad
            )


def own_heads(run: Run) -> OwnHeads:
    """Return the auxiliary heads of a run, its module `heads`."""
    return cast("OwnHeads", run.modules["heads"])
