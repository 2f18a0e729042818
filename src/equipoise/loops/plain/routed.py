"""A loss whose backward pass is defined by the method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

Route = Callable[[Tensor], None]


class _Routed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, _: Tensor, value: Tensor, route: Route) -> Tensor:
        ctx.route = route
        return value.detach().clone()

    @staticmethod
    def backward(ctx: FunctionCtx, *incoming: Any) -> Any:
        ctx.route(incoming[0])  # type: ignore[attr-defined]
        return None, None, None


def routed(value: Tensor, route: Route) -> Tensor:
    """Return a loss of that value; `loss.backward()`, scaled or not, calls `route` with its gradient.

    So the loop can scale it as usual, by the number of accumulated batches or a gradient scaler.
    """
    trigger = torch.zeros((), device=value.device, requires_grad=True)
    loss: Tensor = _Routed.apply(trigger, value, route)  # type: ignore[no-untyped-call]
    return loss


class Accumulated:
    """Adds the gradients of parameters that are set in a block to those before it."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._before: list[Tensor | None] = []

    def __enter__(self) -> None:
        self._before = [p.grad for p in self._parameters]
        for p in self._parameters:
            p.grad = None

    def __exit__(self, *_: object) -> None:
        for p, before in zip(self._parameters, self._before, strict=True):
            if before is not None:
                p.grad = before if p.grad is None else before.add_(p.grad)
