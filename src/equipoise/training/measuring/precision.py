"""The choice of `--precision auto`: a short measured trial of mixed precision."""

from __future__ import annotations

import copy
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from equipoise.distributed import agreed, process_count
from equipoise.models import BalancedModel
from equipoise.randomness import isolated_rng
from equipoise.scopes import evaluating
from equipoise.tasks import task_named
from equipoise.threads import cpu_threads
from equipoise.training.assembly import ModelSpec, build_reference, prepare_data
from equipoise.training.fabric import check_device, make_fabric
from equipoise.training.optimizers import optimizer_of
from equipoise.training.recipe import AUTO
from equipoise.training.settings import Settings
from equipoise.types import Batch

FULL: Final = "32-true"
MIXED: Final = "bf16-mixed"
ROUNDS = 5
FASTER: Final = 1.1
"""How many times as fast mixed precision must be."""
AGREEMENT: Final = 0.99
"""Smallest cosine between the gradients in both precisions."""


def with_precision(settings: Settings, held: Mapping[str, Any]) -> Settings:
    """Return settings with a precision in place of `auto`; `held` are those of the run to resume, if any."""
    if settings.budget.precision != AUTO:
        return settings
    precision = held.get("precision") or agreed(chosen_precision(settings))
    return replace(settings, budget=replace(settings.budget, precision=precision))


def chosen_precision(settings: Settings) -> str:
    """Return `bf16-mixed` where it is clearly faster and gives the same gradients, else `32-true`.

    The joint model takes some steps on one batch in both precisions, in turn; each of several processes takes
    them on as many samples as it has of a batch.

    Raises:
        UsageError: this machine does not have the device.
    """
    check_device(settings.device, FULL)
    dataset, data = prepare_data(settings)
    model = build_reference(settings, ModelSpec.of(dataset))
    size = min(max(1, settings.budget.batch_size // process_count()), data.sizes["train"])
    batch = data.train_samples.alone()[list(range(size))]
    with isolated_rng(), cpu_threads(model, settings.threads), _quiet():
        trials = {name: _Trial(settings, model, batch, name) for name in (FULL, MIXED)}
        full, mixed = (trials[name].gradient() for name in (FULL, MIXED))
        if not float(torch.cosine_similarity(full, mixed, dim=0)) >= AGREEMENT:  # also if it is not a number
            return FULL
        seconds: dict[str, list[float]] = {name: [] for name in trials}
        for _ in range(1 + ROUNDS):
            for name, trial in trials.items():
                seconds[name].append(timed(trial.step))
    medians = {name: statistics.median(found[1:]) for name, found in seconds.items()}  # the first warms up
    return MIXED if medians[FULL] >= FASTER * medians[MIXED] else FULL


def timed(step: Callable[[], None]) -> float:
    """Return the seconds of a step."""
    start = time.perf_counter()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep lightning-fabric from announcing a precision that is only tried."""
    logger = logging.getLogger("lightning_fabric.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Logits(nn.Module):
    def __init__(self, model: BalancedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = self.model(inputs).logits
        return logits


class _Trial:
    """A copy of a model that is trained on one batch in some precision."""

    def __init__(self, settings: Settings, model: BalancedModel, batch: Batch, precision: str) -> None:
        self.fabric = make_fabric(settings.device, precision)
        self.task, self.batch = task_named(model.task), batch.to(self.fabric.device)
        inner = _Logits(copy.deepcopy(model))
        rate = settings.budget.lr
        assert rate is not None  # set by Budget
        optimizer = optimizer_of(inner.parameters(), settings.budget, rate)
        self.model, self.optimizer = self.fabric.setup(inner, optimizer)

    def gradient(self) -> Tensor:
        """Return the gradient of the loss at the initial weights, without dropout, in one row."""
        with evaluating(self.model):
            self._backward()
        found = [p.grad.flatten().float() for p in self.model.parameters() if p.grad is not None]
        return torch.cat(found).cpu()

    def step(self) -> None:
        """Take one step."""
        self._backward()
        self.optimizer.step()

    def _backward(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(self.batch.inputs)
        with self.fabric.autocast():
            loss = self.task.loss(logits, self.batch.target)
        self.fabric.backward(loss)
