"""The training loop, on lightning-fabric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from equipoise.diagnosis import collect_features
from equipoise.diagnosis.captured import diagnose_captured
from equipoise.diagnosis.diagnose import options_for
from equipoise.diagnosis.estimate import usual_options
from equipoise.diagnosis.features.capture import encoders_of
from equipoise.distributed import by_first, load_whole, process_rank, share_values
from equipoise.models.compiled import same_random_numbers
from equipoise.models.multimodal import in_present_names
from equipoise.randomness import derive_seed, seed_everything
from equipoise.tasks import CLASSIFICATION, MULTILABEL
from equipoise.threads import cpu_threads
from equipoise.tracking.pictures import feature_pictures
from equipoise.training.handle import RunHandle
from equipoise.training.measuring.cost import PeakMemory
from equipoise.training.measuring.evaluation import Evaluation, evaluate
from equipoise.training.processes.sharding import placed_optimizer_state, whole_values
from equipoise.training.record.checkpoints import load_checkpoint, restored, save_checkpoint
from equipoise.training.record.record import CHECKPOINT
from equipoise.training.record.snapshots import AFTER, EPOCH
from equipoise.types import Batch, TrainingError

STATEFUL = ("model", "modules", "optimizer", "method", "scaling")
"""What a checkpoint holds the `state_dict` of, in the order in which it is restored."""


class Training(RunHandle):
    """One run of the loop.

    Every epoch starts from random states that depend on seed and epoch alone. A resumed run therefore draws
    the same numbers as an uninterrupted one, and what a method or a diagnosis draws in one epoch does not
    affect the next.
    """

    def fit(self) -> None:
        """Train all epochs, from the checkpoint where there is one; the model then holds the best weights."""
        with self.repeatable():
            self._fit()

    @contextmanager
    def repeatable(self) -> Iterator[None]:
        """Compute with the threads of the settings, and deterministically."""
        # cuDNN would otherwise choose its algorithms by timing them.
        algorithms = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        drawn = nullcontext() if self.settings.compile is None else same_random_numbers()
        with cpu_threads(self.model, self.settings.threads), algorithms, drawn:
            yield

    def _fit(self) -> None:
        for epoch in range(self.first_epoch(), self.total_epochs):
            self.begin_epoch(epoch)
            start = self._now()
            loss = self._train_epoch()
            self.end_epoch(loss, self._now() - start)
        self.keep_best()

    def first_epoch(self) -> int:
        """Return the epoch at which to start: after the checkpoint, where there is one, which is restored."""
        return self._restore() if self.run_record.resumable else 0

    def begin_epoch(self, epoch: int) -> None:
        """Set the random states of an epoch."""
        self.epoch = epoch
        seed_everything(derive_seed(self.settings.seed, "epoch", epoch))

    def end_epoch(self, loss: float, seconds: float) -> None:
        """Validate, and let the method and the diagnosis follow; `loss` and `seconds` are of the training."""
        self.train_seconds += seconds
        self._validate(loss, seconds)
        start = self._now()
        with self.own_time(), self.counting():
            self.method.epoch_end(self)
        self.train_seconds += self._now() - start
        if self._relearnt:
            self._keep_snapshot(AFTER)
        self._diagnose()
        if (self.epoch + 1) % self.settings.checkpoint_every == 0 and self.epoch + 1 < self.total_epochs:
            self._save()

    def keep_best(self) -> None:
        """Give the model the best weights."""
        if not self.total_epochs:
            self._validate(math.nan, 0.0)
        load_whole(self.model, self.best["model"])

    def _train_epoch(self) -> float:
        self.prepare_epoch()
        losses, sizes = [], []
        with self.counting():
            for batch in self.method.train_data(self.ordered(), self):
                batch = batch.to(self.device, non_blocking=True)
                with _enough_samples(len(batch)):
                    losses.append(self.method.train_step(batch, self))
                sizes.append(len(batch))
                self.step += 1
        return self.mean_loss(losses, sizes)

    def prepare_epoch(self) -> None:
        """Set the order of the batches, the learning rates and the mode, and let the method prepare."""
        self._set_epoch(self.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rates[self.epoch] * group["factor"]
        self._stepped.train()
        self.scaling.start_epoch()
        with self.counting(), self.own_time():
            self.method.epoch_start(self)

    def mean_loss(self, losses: Sequence[Tensor], sizes: Sequence[int]) -> float:
        """Return the mean of the losses of an epoch's batches.

        Raises:
            TrainingError: there is no batch, or the mean is not finite.
        """
        if not losses:
            raise TrainingError(f"the method {self.method.name!r} left no batch in epoch {self.epoch}.")
        # On the CPU, as not every device has double precision.
        weights = torch.tensor(sizes, dtype=torch.float64)
        loss = float(torch.stack(list(losses)).cpu().double() @ weights / weights.sum())
        if not math.isfinite(loss):
            raise TrainingError(
                f"the training loss is {loss} in epoch {self.epoch}; lower the learning rate "
                f"({self.settings.budget.lr}) or clip the gradients (--clip-norm 1)."
            )
        return loss

    def _validate(self, train_loss: float, seconds: float) -> None:
        # Processes end an epoch with equal weights; their batch norms may have seen different samples.
        share_values(chain(self._stepped.parameters(), self._stepped.buffers()))
        evaluation = self.evaluate(self.val)
        scores = evaluation.scores
        self.record(
            "epoch",
            train_loss=train_loss if math.isfinite(train_loss) else None,
            **{f"val_{name}": value for name, value in scores.items()},
            lr=self.learning_rates[self.epoch],
            seconds=seconds,
            **self.scaling.counted(),
        )
        rank = self._rank(scores)
        if self.method.is_candidate(self) and (not self.best or rank > tuple(self.best["rank"])):
            self.best = {
                "epoch": self.epoch,
                "rank": list(rank),
                "validation": scores,
                "predictions": evaluation.predictions,
                "model": deepcopy(self.model.state_dict()),
            }
        if self.on_epoch is not None and self.run_record.writes:
            self.on_epoch(self.epoch, scores)

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Return the model's predictions with their loss and the figures of the task."""
        return evaluate(self.model, batches, self._num_classes, self.device, self._target_scale)

    def _rank(self, scores: dict[str, float]) -> tuple[float, float]:
        """Order epochs by the chosen figure; ties are broken by the loss."""
        figure = self.settings.budget.selector(self.task)
        less_is_better = figure == "loss" or figure in self.task.errors
        return -scores[figure] if less_is_better else scores[figure], -scores["loss"]

    def _diagnose(self) -> None:
        """Diagnose without changing anything, for the curves of the report."""
        last = self.epoch == self.total_epochs - 1
        # After a re-learning one more diagnosis shows its effect.
        wanted = self._relearnt or last or self.looks.due(self.epoch)
        self._relearnt = False
        if self.looks.every == 0 or not wanted:
            return
        self._keep_snapshot(EPOCH)
        start = self._now()
        whole = self.looks.whole(last)
        batches = (self.train_eval, self.val) if whole else self.looks.samples(self.batch_size)
        encoders = encoders_of(self.model)
        with self.looks.counted(self.model):
            train, val = (collect_features(encoders, self.model, split, in_blocks=True) for split in batches)
        # A regression scored on the samples that it was fitted on would be biased; purity stays the paper's.
        own = {} if self.task is CLASSIFICATION else {"assign": "cross-fit"}
        if self.task is MULTILABEL:  # also where each sample has one label
            own = usual_options("labels", {})
        own |= {} if whole else self.looks.options()
        states = diagnose_captured(options_for("paper", own, train.target, val.target), train, val)
        found = {"modalities": states.to_dict()}
        if departures := states.options.departures():
            found["options"] = departures
        pictured = bool(self.settings.logger) and self.task is CLASSIFICATION
        pictures = feature_pictures(train, val, self.classes) if pictured else None
        self._record("diagnosis", found, pictures)
        self.looks.plan(train.features, self._num_classes, self.batch_size)
        self.look_seconds += self._now() - start

    def _save(self) -> None:
        counters, peak_memory = self.total_counters, self.peak_memory
        held = {name: getattr(self, name).state_dict() for name in STATEFUL}
        held["best"] = self.best
        if self.sharded:
            held = whole_values(held)
        if not self.run_record.writes:
            return
        state = {
            "epoch": self.epoch,
            "step": self.step,
            **held,
            "generator": self.generator.get_state(),
            "counters": vars(counters),
            "train_seconds": self.train_seconds,
            "look_seconds": self.look_seconds,
            "look_every": self.looks.every,
            "order": self.order,
            "peak_memory": peak_memory,
        }
        save_checkpoint(self.run_record, state)

    def _restore(self) -> int:
        record, held = self.run_record, list[dict[str, Any]]()
        by_first(lambda: held.append(restored(record)))
        state = held[0] if held else load_checkpoint(record.path(CHECKPOINT))
        for name in STATEFUL:
            if name == "model":
                load_whole(self.model, in_present_names(self.model, state[name]))
            elif name == "optimizer":
                self.optimizer.load_state_dict(placed_optimizer_state(state[name], self.optimizer))
            else:
                getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        self.best, self.step, self.order = state["best"], state["step"], state["order"]
        if self.best:
            self.best["model"] = in_present_names(self.model, self.best["model"])
        if process_rank() == 0:  # they are those of all processes
            for name, value in state["counters"].items():
                setattr(self.counters, name, value)
        self._memory = PeakMemory(self.device, state["peak_memory"])
        self.train_seconds = state["train_seconds"]
        self.look_seconds, self.looks.every = state["look_seconds"], state["look_every"]
        return int(state["epoch"]) + 1


@contextmanager
def _enough_samples(count: int) -> Iterator[None]:
    """Say in a block what one sample is too few for."""
    try:
        yield
    except ValueError as error:
        if count > 1 or "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            "batch normalisation cannot train on one sample; expected batches of at least two a process "
            "(--batch-size 2)."
        ) from None
