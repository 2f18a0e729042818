"""Steps after a re-learning that use the training data: statistics estimated anew, the head refitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from equipoise.distributed import average_values, unsynced
from equipoise.randomness import isolated_rng
from equipoise.scopes import evaluating
from equipoise.tasks import task_of

Run = Callable[[Any], Tensor]
"""From a batch to logits `[B, C]`."""
TargetOf = Callable[[Any], Tensor]


@torch.no_grad()
def recalibrate_norms(
    encoders: Iterable[nn.Module], model: nn.Module, run: Callable[[Any], object], batches: Iterable[Any]
) -> None:
    """Estimate the running statistics of the encoders' batch normalisation from data.

    The model runs in evaluation mode but for those layers, which average over all batches; modes and momentum
    are then as before. Several processes, each with its share of the samples, end with the mean of theirs.
    """
    norms = {  # in an order that all processes share
        layer: None
        for encoder in encoders
        for layer in encoder.modules()
        if isinstance(layer, _NormBase) and layer.track_running_stats
    }
    if not norms:
        return
    momentum = {layer: layer.momentum for layer in norms}
    try:
        with isolated_rng(), evaluating(model), unsynced(model):
            for layer in norms:
                layer.reset_running_stats()
                layer.momentum = None  # None means the plain average over batches
                layer.training = True
            for batch in batches:
                run(batch)
        average_values(
            statistic
            for layer in norms
            for statistic in (layer.running_mean, layer.running_var)
            if statistic is not None
        )
    finally:
        for layer in norms:
            layer.momentum = momentum[layer]


def refit_head(
    head: nn.Module,
    model: nn.Module,
    run: Run,
    target_of: TargetOf,
    batches: Iterable[Any],
    steps: int,
    lr: float,
) -> None:
    """Take some plain gradient steps of the head on the re-learnt features, everything else held fixed.

    The loss is that of the task which the target is one of (`equipoise.tasks`). Gradients that parameters
    held before are kept. Several processes step by the mean of their gradients.
    """
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    with isolated_rng(), evaluating(model), unsynced(model):
        for batch in islice(batches, steps):
            target = target_of(batch)
            loss = task_of(target).loss(run(batch), target)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            average_values(gradient for gradient in gradients if gradient is not None)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    if gradient is not None:
                        parameter.sub_(lr * gradient)
