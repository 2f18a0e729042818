"""Gradients as values, and optimiser steps that reach some parameters only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from equipoise.methods.core.run import Run
from equipoise.methods.shared.precision import widened


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


def inner_product(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Return the inner product of two lists of tensors, in float32 or wider, and float64 across tensors."""
    products = []
    for a, b in zip(left, right, strict=True):
        products.append((widened(a.detach()) * widened(b.detach())).sum())
    # Summed on the CPU, as not every device has double precision.
    return float(torch.stack(products).cpu().double().sum()) if products else 0.0


def squared_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the squared norm of a list of tensors taken together, a number, in float32 or wider."""
    wide = [widened(x.detach()) for x in tensors]
    return torch.stack(torch._foreach_norm(wide)).square().sum() if wide else torch.zeros(())


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
