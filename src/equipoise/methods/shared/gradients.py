"""Gradients as values, and optimiser steps that change only some parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from equipoise.distributed import averaged
from equipoise.models.precision import widened


def trainable(parameters: Iterable[tuple[str, nn.Parameter]]) -> list[nn.Parameter]:
    """Return the parameters that require a gradient, from a list such as `model.encoder_parameters(m)`."""
    return [parameter for _, parameter in parameters if parameter.requires_grad]


def gradients_of(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return the gradient of a loss with respect to each parameter, zeros where it does not depend on it.

    The graph is kept, and `.grad` is not changed. Of processes that share a batch it is that of all samples.
    """
    if not loss.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    gradients = [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ]
    return averaged(gradients)


def inner_product(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Return the inner product of two lists of tensors, in float32 or wider, summed over them in float64."""
    products = []
    for a, b in zip(left, right, strict=True):
        products.append((widened(a.detach()) * widened(b.detach())).sum())
    # On the CPU, as not every device has double precision.
    return float(torch.stack(products).cpu().double().sum()) if products else 0.0


def squared_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the squared norm of a list of tensors taken together, a number, in float32 or wider."""
    wide = [widened(x.detach()) for x in tensors]
    return torch.stack(torch._foreach_norm(wide)).square().sum() if wide else torch.zeros(())


def drop_gradients(parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Remove the gradients of parameters.

    The optimiser then skips them: momentum and weight decay do not move them either.
    """
    for _, parameter in parameters:
        parameter.grad = None
