"""Train several small runs side by side.

A step of a small model takes longer to call than to compute, and one step of ten stacked models calls torch
as often as a step of one. Only the steps are shared: every run has its own seed, order of batches, random
numbers, validation, re-learnings, checkpoints and record, and ends as if it had been alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from equipoise.methods import Method
from equipoise.models.dropout import Dropout
from equipoise.threads import SMALL_MODEL
from equipoise.training.loop import Training
from equipoise.training.side_by_side.stack import Stack, optimizer_numbers

LAYERS = (nn.Linear, nn.ReLU, nn.Identity, nn.Dropout, Dropout)
"""Layers of which a stacked step computes the numbers of each."""


def stacks(kind: type[Method]) -> bool:
    """Return whether a method says so itself, not a method that it extends."""
    return bool(vars(kind).get("stacks", False))


def can_stack(training: Training) -> bool:
    """Return whether the steps of a run can be taken together with those of others that differ by seed."""
    budget, module = training.settings.budget, training.stepped
    own = dict(module.named_parameters(remove_duplicate=False))
    return (
        stacks(type(training.method))
        and training.method.stacks_now()
        and training.total_epochs > 0
        and all(type(layer) in LAYERS or _holds_nothing(layer) for layer in module.modules())
        and len({id(weight) for weight in own.values()}) == len(own)
        and all(weight.requires_grad for weight in own.values())
        and sum(weight.numel() for weight in own.values()) < SMALL_MODEL
        and (budget.precision, training.settings.compile) == ("32-true", None)
        and training.device.type == "cpu"
    )


def _holds_nothing(layer: nn.Module) -> bool:
    """Whether it is of torch or ours, without weights; a user's layer could mix rows, or draw numbers."""
    known = type(layer).__module__.partition(".")[0] in ("torch", "equipoise")
    return known and not [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]


def stackable(trainings: Sequence[Training]) -> bool:
    """Return whether `train_together` gives each of the runs exactly what it would have alone."""
    sizes = {(training.train_size, training.batch_size) for training in trainings}
    return (
        len(trainings) > 1
        and len(sizes) == 1
        and all(can_stack(training) for training in trainings)
        and Stack(trainings).is_exact()
    )


def train_together(trainings: Sequence[Training]) -> Iterator[tuple[int, Exception]]:
    """Train runs of one method, model and budget that are `stackable`.

    Yields the place and the error of each run that fails; the others go on.
    """
    first: dict[int, int] = {}  # of those that have not failed
    for place, training in enumerate(trainings):
        try:
            first[place] = training.first_epoch()
        except Exception as error:
            yield place, error
    with trainings[0].repeatable():
        for epoch in range(min(first.values(), default=0), trainings[0].total_epochs):
            active = [place for place, begin in first.items() if begin <= epoch]
            for places in _alike(trainings, active):
                for place, failure in _train_epoch(trainings, places, epoch):
                    del first[place]
                    yield place, failure
    for place in first:
        try:
            trainings[place].keep_best()
        except Exception as error:
            yield place, error


def _alike(trainings: Sequence[Training], places: Sequence[int]) -> list[list[int]]:
    """Return groups of runs whose optimisers can be stacked: a re-learning may have reset some of them."""
    groups: dict[object, list[int]] = {}
    for place in places:
        groups.setdefault(optimizer_numbers(trainings[place]), []).append(place)
    return list(groups.values())


def _train_epoch(
    trainings: Sequence[Training], places: Sequence[int], epoch: int
) -> Iterator[tuple[int, Exception]]:
    """Train one epoch of some of the runs; yields those that fail."""
    start = time.perf_counter()
    try:
        stack = Stack([trainings[place] for place in places])
        losses = stack.train_epoch(epoch)
    except Exception as error:  # of which of them is unknown
        yield from ((place, error) for place in places)
        return
    seconds = (time.perf_counter() - start) / len(places)
    for place, found, state in zip(places, losses, stack.random_states(), strict=True):
        training = trainings[place]
        training.begin_epoch(epoch)  # as the steps left it, apart from the numbers that torch has drawn
        torch.set_rng_state(state)
        try:
            training.end_epoch(training.mean_loss(found, stack.sizes), seconds)
        except Exception as error:
            yield place, error
