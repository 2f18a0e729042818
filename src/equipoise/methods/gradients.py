"""Gradients as values, and optimiser steps that reach some parameters only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from equipoise.methods.run import Run


def trainable(parameters: Iterable[tuple[str, nn.Parameter]]) -> list[nn.Parameter]:
    """Return the parameters that require a gradient, of a list such as `model.encoder_parameters(m)`."""
    return [parameter for _, parameter in parameters if parameter.requires_grad]


def gradients_of(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return the gradient of a loss with respect to each parameter, zeros where it does not depend on it.

    The graph is kept, and nothing is left in `.grad`.
    """
    if not loss.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ]


def inner_product(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Return the inner product of two lists of tensors, in float64 where the device has it."""
    products = [
        (a.detach().double().cpu() * b.detach().double().cpu()).sum()
        for a, b in zip(left, right, strict=True)
    ]
    return torch.stack(products).sum()


def drop_gradients_except(run: Run, kept: Iterable[nn.Parameter]) -> None:
    """Take the gradients from all other parameters of the optimiser.

    No gradient, unlike a gradient of zero, keeps momentum and weight decay from moving a parameter.
    """
    wanted = set(kept)
    for group in run.optimizer.param_groups:
        for parameter in group["params"]:
            if parameter not in wanted:
                parameter.grad = None


def drop_gradients(parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Take the gradients from parameters, so that the optimiser leaves them as they are."""
    for _, parameter in parameters:
        parameter.grad = None
