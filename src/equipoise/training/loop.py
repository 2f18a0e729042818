"""The training loop, on lightning-fabric."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from equipoise.data import RunData
from equipoise.diagnosis import collect_features, diagnose
from equipoise.methods import Counters, Method, StepContext
from equipoise.models import BalancedModel
from equipoise.randomness import derive_seed, seed_everything
from equipoise.training import fingerprints
from equipoise.training.checkpoint import load_checkpoint, save_checkpoint
from equipoise.training.evaluation import evaluate
from equipoise.training.record import CHECKPOINT, DIAGNOSES, METRICS, RunRecord
from equipoise.training.settings import Budget, Settings
from equipoise.training.threads import cpu_threads
from equipoise.types import Batch, TrainingError

OnEpoch = Callable[[int, dict[str, float]], None]
DIAGNOSES_IN_A_RUN = 10


class _Stepped(nn.Module):
    """The method's forward pass as a module, which is what fabric's strategies wrap."""

    def __init__(self, model: BalancedModel, method: Method) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, context: StepContext) -> Tensor:
        return self.method.forward(context)


class Training:
    """One run of the loop; implements the protocol `equipoise.methods.Run`.

    Every epoch starts from random states that follow from seed and epoch alone. A resumed run therefore draws
    what an unbroken one draws, and what a method or a diagnosis draws in one epoch cannot shift the next.
    """

    def __init__(
        self,
        settings: Settings,
        data: RunData,
        model: BalancedModel,
        method: Method,
        record_of: RunRecord,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        budget = settings.budget
        self.settings, self.method, self.run_record = settings, method, record_of
        self.on_epoch = on_epoch
        precision: Any = budget.precision  # one of PRECISIONS, which Budget has checked
        self.fabric = Fabric(accelerator=settings.device, devices=1, precision=precision)
        self.device: torch.device = self.fabric.device
        self.model = model
        optimizer = build_optimizer(model, budget)
        self._stepped, self.optimizer = self.fabric.setup(_Stepped(model, method), optimizer)
        self.generator = torch.Generator().manual_seed(derive_seed(settings.seed, "method", method.name))
        self.counters = Counters()
        self.total_epochs = budget.epochs if method.trains else 0
        self.learning_rates: Sequence[float] = budget.learning_rates()
        self.epoch, self.step = 0, 0
        self.train_seconds = 0.0
        self.best: dict[str, Any] = {}
        self.order = ""
        """Digest of the samples served, batch by batch, since the first epoch."""
        self._relearnt = False
        self._train, self._train_eval, self._val = data.train, data.train_eval, data.val
        self._set_epoch, self._num_classes = data.set_epoch, data.class_count
        method.setup(self)

    @property
    def train(self) -> Any:
        """The training batches, in the order of the epoch."""
        return self._train

    @property
    def train_eval(self) -> Any:
        """The training batches in order."""
        return self._train_eval

    @property
    def val(self) -> Any:
        """The validation batches."""
        return self._val

    def forward(self, context: StepContext) -> Tensor:
        """Run the method's forward pass under the configured precision."""
        logits: Tensor = self._stepped(context)
        return logits

    def backward(self, loss: Tensor) -> None:
        """Propagate a loss back."""
        self.fabric.backward(loss)

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision under which losses are computed."""
        context: AbstractContextManager[Any] = self.fabric.autocast()
        return context

    def clip_gradients(self) -> None:
        """Clip the gradients as configured."""
        limit = self.settings.budget.clip_norm
        if limit is not None:
            self.fabric.clip_gradients(self._stepped, self.optimizer, max_norm=limit)

    @contextmanager
    def own_time(self) -> Iterator[None]:
        """Count the time of a block as the method's."""
        start = self._now()
        try:
            yield
        finally:
            self.counters.method_seconds += self._now() - start

    def _now(self) -> float:
        if self.device.type == "cuda":  # work that was queued before is not the method's
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def record(self, kind: str, **values: Any) -> None:
        """Write an event of this epoch into the run record."""
        name = DIAGNOSES if "modalities" in values else METRICS
        self.run_record.append(name, {"event": kind, "epoch": self.epoch, **values})
        self._relearnt = self._relearnt or kind == "relearning"

    def fit(self) -> None:
        """Train all epochs, from the checkpoint where there is one; the model then holds the best weights."""
        # cuDNN would choose its algorithms by a race; one run must give one result.
        repeatable = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        with cpu_threads(self.model, self.settings.threads), repeatable:
            self._fit()

    def _fit(self) -> None:
        first = self._restore() if self.run_record.resumable else 0
        for epoch in range(first, self.total_epochs):
            self.epoch = epoch
            seed_everything(derive_seed(self.settings.seed, "epoch", epoch))
            start = time.perf_counter()
            loss = self._train_epoch()
            seconds = time.perf_counter() - start
            self.train_seconds += seconds
            self._validate(loss, seconds)
            start = time.perf_counter()
            with self.own_time():
                self.method.epoch_end(self)
            self.train_seconds += time.perf_counter() - start
            self._look()
            if (epoch + 1) % self.settings.checkpoint_every == 0 and epoch + 1 < self.total_epochs:
                self._save()
        if not self.total_epochs:
            self._validate(math.nan, 0.0)
        self.model.load_state_dict(self.best["model"])

    def _train_epoch(self) -> float:
        self._set_epoch(self.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rates[self.epoch]
        self.model.train()
        with self.own_time():
            self.method.epoch_start(self)
        losses, sizes = [], []
        for batch in self._train:
            self.order = fingerprints.of_text(f"{self.order}|{batch.index.tolist()}")
            batch = batch.to(self.device, non_blocking=True)
            losses.append(self.method.train_step(batch, self))
            sizes.append(len(batch))
            self.step += 1
        # On the CPU, as not every device has double precision.
        weights = torch.tensor(sizes, dtype=torch.float64)
        loss = float(torch.stack(losses).cpu().double() @ weights / weights.sum())
        if not math.isfinite(loss):
            raise TrainingError(
                f"the training loss is {loss} in epoch {self.epoch}; lower the learning rate "
                f"({self.settings.budget.lr}) or clip the gradients (--clip-norm 1)."
            )
        return loss

    def _validate(self, train_loss: float, seconds: float) -> None:
        scores = self.evaluate(self._val)
        self.record(
            "epoch",
            train_loss=train_loss if math.isfinite(train_loss) else None,
            **{f"val_{name}": value for name, value in scores.items()},
            lr=self.learning_rates[self.epoch],
            seconds=seconds,
        )
        rank = self._rank(scores)
        if not self.best or rank > tuple(self.best["rank"]):
            self.best = {
                "epoch": self.epoch,
                "rank": list(rank),
                "validation": scores,
                "model": deepcopy(self.model.state_dict()),
            }
        if self.on_epoch is not None:
            self.on_epoch(self.epoch, scores)

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Return loss, accuracy and macro-F1 of the method's predictions."""
        return evaluate(
            self.model,
            lambda batch: self.method.predict(batch, self),
            batches,
            self._num_classes,
            self.device,
        )

    def _rank(self, scores: dict[str, float]) -> tuple[float, float]:
        """Order epochs by the chosen figure; equal ones by the loss, which ties more rarely."""
        chosen = (
            -scores["loss"] if self.settings.budget.select == "loss" else scores[self.settings.budget.select]
        )
        return chosen, -scores["loss"]

    def _look(self) -> None:
        """Diagnose without changing anything, for the curves of the report."""
        every = self.settings.diagnose_every
        if every is None:
            every = math.ceil(self.total_epochs / DIAGNOSES_IN_A_RUN)
        last = self.epoch == self.total_epochs - 1
        # Behind a re-learning one more look shows what it did.
        wanted = self._relearnt or last or (every > 0 and self.epoch % every == 0)
        self._relearnt = False
        if every == 0 or not wanted:
            return
        encoders = {name: self.model.encoder_module(name) for name in self.model.modalities}
        train = collect_features(encoders, self.model, self._train_eval)
        val = collect_features(encoders, self.model, self._val)
        states = diagnose(train.features, train.target, val.features, val.target)
        self.record("diagnosis", modalities=states.to_dict())

    def _save(self) -> None:
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state_dict(),
            "generator": self.generator.get_state(),
            "best": self.best,
            "counters": vars(self.counters),
            "train_seconds": self.train_seconds,
            "order": self.order,
            "lengths": self.run_record.lengths(),
        }
        save_checkpoint(self.run_record.path(CHECKPOINT), state)

    def _restore(self) -> int:
        state = load_checkpoint(self.run_record.path(CHECKPOINT))
        self.run_record.truncate(state["lengths"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.method.load_state_dict(state["method"])
        self.generator.set_state(state["generator"])
        self.best, self.step, self.order = state["best"], state["step"], state["order"]
        self.counters = Counters(**state["counters"])
        self.train_seconds = state["train_seconds"]
        return int(state["epoch"]) + 1


def build_optimizer(model: BalancedModel, budget: Budget) -> Optimizer:
    """Build the optimiser with a group for each encoder and one for the rest, in the model's order."""
    groups = [[p for _, p in model.encoder_parameters(name)] for name in model.modalities]
    groups.append([p for _, p in (*model.fusion_parameters(), *model.shared_parameters())])
    wanted = [{"params": [p for p in group if p.requires_grad]} for group in groups]
    parameters = [group for group in wanted if group["params"]]
    if not parameters:
        raise TrainingError("the model has no parameter that requires a gradient; nothing can be trained.")
    assert budget.lr is not None  # filled in by Budget
    if budget.optimizer == "adamw":
        return AdamW(parameters, lr=budget.lr, weight_decay=budget.weight_decay)
    return SGD(parameters, lr=budget.lr, momentum=budget.momentum, weight_decay=budget.weight_decay)
