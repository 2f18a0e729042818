"""The protocol `equipoise.methods.Run` on lightning-fabric: what a method sees of our own training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from equipoise.data import Positions, RunData
from equipoise.diagnosis.features.capture import encoders_of
from equipoise.distributed import average_values, gathered, process_count, share_values
from equipoise.methods import Counters, Method
from equipoise.methods.core.combination import build_modules
from equipoise.models import BalancedModel
from equipoise.models.compiled import compile_forward
from equipoise.models.shared_norm import share_statistics
from equipoise.randomness import derive_seed
from equipoise.relearning.relearner import DiagnoseRelearn
from equipoise.tasks import task_named
from equipoise.tracking.outlets import Pictures
from equipoise.training.fabric import make_fabric, passes_on
from equipoise.training.loss_scaling import LossScaling
from equipoise.training.measuring.cost import PassCounter, PeakMemory
from equipoise.training.measuring.looks import MOST, Looks
from equipoise.training.optimizers import build_optimizer, optimizer_of
from equipoise.training.processes.sharding import clip_parts, shard_encoders
from equipoise.training.record import fingerprints
from equipoise.training.record.record import DIAGNOSES, METRICS, RunRecord
from equipoise.training.record.snapshots import BEFORE, Snapshots
from equipoise.training.settings import Settings
from equipoise.types import Batch

OnEpoch = Callable[[int, dict[str, float]], None]


class _Stepped(nn.Module):
    """The method's forward pass as a module, for fabric's strategies to wrap."""

    def __init__(self, model: BalancedModel, modules: nn.ModuleDict) -> None:
        super().__init__()
        self.model, self.modules_of_method = model, modules

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        return compute()


class RunHandle:
    """One run as its method sees it, see `equipoise.methods.Run`.

    `joint_encoders` is the number of encoders of the joint model; a sample counts when all have seen it. With
    `shard` each process has a part of every encoder.
    """

    def __init__(
        self,
        settings: Settings,
        data: RunData,
        model: BalancedModel,
        method: Method,
        record_of: RunRecord,
        on_epoch: OnEpoch | None = None,
        *,
        joint_encoders: int | None = None,
        shard: bool = False,
    ) -> None:
        budget = settings.budget
        self.settings, self.method, self.run_record = settings, method, record_of
        self.on_epoch = on_epoch
        self._joint_encoders = joint_encoders or len(model.modalities)
        self.fabric = make_fabric(settings.device, budget.precision)
        self.device: torch.device = self.fabric.device
        self.model, self.task = model, task_named(model.task)
        self.modules = build_modules(method, model, settings.budget, settings.seed)
        for part in (model, self.modules):
            share_statistics(part)
        if self.device.type == "cpu" and process_count() == 1:
            for encoder in encoders_of(model).values():
                if getattr(encoder, "channels_last", False):
                    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sharded = shard
        if shard:
            shard_encoders(model, self.device)
        optimizer = build_optimizer(model, self.modules, budget)
        self._stepped, self.optimizer = self.fabric.setup(_Stepped(model, self.modules), optimizer)
        if settings.compile is not None:
            compile_forward(dict.fromkeys(encoders_of(model).values()), settings.compile)
        self.scaling = LossScaling(self.fabric.strategy.precision, optimizer)
        self._plain = passes_on(self.fabric)
        if self._plain:
            self.optimizer = optimizer
        if self.device.type == "cpu":
            for group in optimizer.param_groups:
                group["foreach"] = False  # what torch would decide anew in every step
        share_values(chain(self._stepped.parameters(), self._stepped.buffers()))
        self.generator = self.stream(method.name)
        self.counters = Counters()
        self._counter = PassCounter(self.counters)
        for encoder in dict.fromkeys(encoders_of(model).values()):
            self._counter.watch(encoder)
        self._memory = PeakMemory(self.device)
        self.total_epochs = budget.epochs if method.trains else 0
        self.learning_rates: Sequence[float] = method.learning_rates(budget)
        self.epoch, self.step = 0, 0
        self.train_seconds, self.look_seconds = 0.0, 0.0
        self.order = ""
        """Digest of the samples served, batch by batch, since the first epoch."""
        self._relearnt = False
        self.snapshots = Snapshots(record_of) if settings.trace else None
        self._aside_seconds = 0.0
        self._source = data.train_samples
        self.train_target, self.train_size = data.train_samples.target, data.sizes["train"]
        self.batch_size, self.steps_per_epoch = budget.batch_size, len(data.train)
        self.train, self.train_eval, self.val = data.train, data.train_eval, data.val
        self._set_epoch, self._num_classes = data.set_epoch, data.class_count
        self._target_scale, self.classes = data.target_scale, data.classes
        self.best: dict[str, Any] = {}
        every = settings.diagnose_every
        if every is None and settings.trace:
            every = max(1, -(-self.total_epochs // MOST))
        self.looks = Looks(every, self.total_epochs, data.train_samples, data.val_samples, self.task)
        method.setup(self)

    @property
    def stepped(self) -> nn.Module:
        """What is trained: the model, and the modules of the method."""
        inner: nn.Module = self._stepped.module
        return inner

    def take(self, positions: Sequence[int]) -> Batch:
        """Return training samples by their positions in the split.

        In training mode they are augmented like the epoch's batches. In evaluation mode, when a method
        measures something, they are not.
        """
        return self._source[Positions(positions, self.epoch) if self.model.training else positions]

    def stream(self, method: str) -> torch.Generator:
        """Return a new random stream for a method of that name."""
        return torch.Generator().manual_seed(derive_seed(self.settings.seed, "method", method))

    def count_passes(self, module: nn.Module) -> None:
        """Count the passes through a module as passes of one encoder."""
        self._counter.watch(module)

    def fresh_optimizer(self, parameters: Iterable[Any]) -> Optimizer:
        """Return another optimiser of the configured kind, over parameters or groups of them."""
        return optimizer_of(parameters, self.settings.budget, self.learning_rates[self.epoch])

    @property
    def whole(self) -> nn.Module:
        """The model."""
        return self.model

    def relearner(self, *schedule: Any, **options: Any) -> DiagnoseRelearn:
        """Return Diagnosing & Re-learning of the run's encoders."""
        return DiagnoseRelearn(encoders_of(self.model), *schedule, optimizer=self.optimizer, **options)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of the task, the mean over the batch."""
        return self.task.loss(logits, target)

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """Return what the method's forward pass computes, under the configured precision."""
        logits: Tensor = compute() if self._plain else self._stepped(compute)
        return logits

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass of a loss; the gradients are then the same in all processes."""
        if self._plain:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self.fabric.backward(loss)
        if process_count() > 1:
            average_values(p.grad for p in self._stepped.parameters() if p.grad is not None)
        self.scaling.unscale()

    @property
    def overflowed(self) -> bool:
        """Whether the gradients are not finite and loss scaling skips the step."""
        return self.scaling.overflowed

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision under which losses are computed."""
        context: AbstractContextManager[Any] = nullcontext() if self._plain else self.fabric.autocast()
        return context

    def clip_gradients(self) -> None:
        """Clip the gradients as configured."""
        limit = self.settings.budget.clip_norm
        if limit is None:
            return
        # A gradient that is not finite is reported with the loss of the epoch.
        if self.sharded:
            clip_parts((p.grad for p in self._stepped.parameters() if p.grad is not None), limit)
        elif self._plain or self.scaling.active:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            if norm.device.type != "cpu" or not norm <= limit:  # reading it from a GPU would wait for it
                nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        else:
            self.fabric.clip_gradients(
                self._stepped, self.optimizer, max_norm=limit, error_if_nonfinite=False
            )

    def counting(self) -> AbstractContextManager[None]:
        """Count passes of encoders as those of the training in a block."""
        return self._counter.counting()

    @contextmanager
    def own_time(self) -> Iterator[None]:
        """Count the time of a block as the method's."""
        start = self._now()
        try:
            yield
        finally:
            self.counters.method_seconds += self._now() - start

    def _now(self) -> float:
        """Return the seconds of a clock that is stopped while snapshots are kept and events are written."""
        if self.device.type == "cuda":  # earlier work in the queue is not the method's
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - self._aside_seconds

    def record(self, kind: str, **values: Any) -> None:
        """Write an event of this epoch into the run record; that of a re-learning comes right before it."""
        self._record(kind, values)

    def _record(self, kind: str, values: Mapping[str, Any], pictures: Pictures | None = None) -> None:
        """Write an event, and show trackers the pictures that go with it; their time is not counted."""
        if kind == "relearning":
            self._keep_snapshot(BEFORE)
            self._relearnt = True
        name = DIAGNOSES if "modalities" in values else METRICS
        start = self._now()
        self.run_record.append(name, {"event": kind, "epoch": self.epoch, **values}, pictures)
        self._aside_seconds += self._now() - start

    def _keep_snapshot(self, event: str) -> None:
        """Keep the present weights where the run has a trace; the time for it is not counted."""
        if self.snapshots is None:
            return
        start = self._now()
        self.snapshots.keep(self.model, self.epoch, event)
        self._aside_seconds += self._now() - start

    def ordered(self) -> Iterator[Batch]:
        """Serve the epoch's batches, and note their order."""
        if self.changes_data:  # the order before the method's choice is noted
            for positions in self.train.sampler:
                self._note(self._source.indices[positions])
            yield from self.train
            return
        for batch in self.train:
            self._note(batch.index)
            yield batch

    def _note(self, index: Tensor) -> None:
        self.order = fingerprints.of_text(f"{self.order}|{index.tolist()}")

    @property
    def changes_data(self) -> bool:
        """Whether the method changes the training data."""
        return any(member.changes_data() for member in self.method.members())

    @property
    def cost(self) -> dict[str, Any]:
        """The cost of the run; a sample counts once all encoders of the joint model have seen it."""
        counters, encoders = self.total_counters, self._joint_encoders
        return {
            "train_seconds": self.train_seconds,
            "look_seconds": self.look_seconds,
            "method_seconds": counters.method_seconds,
            "forward_samples": round(counters.forward_passes / encoders),
            "backward_samples": round(counters.backward_passes / encoders),
        }

    @property
    def total_counters(self) -> Counters:
        """The work done by all processes, in the time of the first."""
        every = gathered(self.counters)
        forward, backward = (
            sum(one.forward_passes for one in every),
            sum(one.backward_passes for one in every),
        )
        return Counters(forward, backward, every[0].method_seconds)

    @property
    def peak_memory(self) -> int | None:
        """The largest memory of a process so far, in bytes."""
        known = [size for size in gathered(self._memory.bytes()) if size is not None]
        return max(known, default=None)
