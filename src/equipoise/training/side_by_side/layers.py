"""Layers that read the rows of several runs, one run after the other, each with its own weights.

Their numbers are those of each run alone, bit for bit: products and sums are those that torch takes for one,
and each run's masks are drawn from its own generator.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import Function

from equipoise.models.dropout import LEVELS, Dropout, kept

Kind = TypeVar("Kind", bound=nn.Module)


def stacked(module: Kind, weights: Mapping[str, Tensor], generators: Sequence[torch.Generator]) -> Kind:
    """Return a copy of a module for rows `[S B, ...]` of `S` runs.

    `weights` are its parameters `[S, ...]` by name, all of linear layers. Of the layers, those that treat
    rows alike are kept as they are.
    """
    changed = copy.deepcopy(module)
    for path, layer in list(changed.named_modules()):
        parent, _, name = path.rpartition(".")
        if type(layer) is nn.Linear:
            bias = weights.get(f"{path}.bias")
            setattr(changed.get_submodule(parent), name, _Linear(weights[f"{path}.weight"], bias))
        elif isinstance(layer, nn.Dropout):
            setattr(changed.get_submodule(parent), name, _Masked(layer, generators))
    return changed


class _Linear(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._stacked = weight, bias
        self.out_features, self.in_features = weight.shape[1:]

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self._stacked
        rows = x.reshape(len(weight), -1, x.shape[-1])
        changed: Tensor = _StackedLinear.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
        return changed.reshape(*x.shape[:-1], -1)


class _StackedLinear(Function):
    """`x W^T + b` of `x [S, B, I]`, `W [S, O, I]` and `b [S, O]`.

    The gradient of `W` is the product of the transposed gradient with `x`, as for one layer; the rule of
    `torch.baddbmm` is its transpose, which rounds differently.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        if bias is None:
            return torch.bmm(x, weight.mT)
        return torch.baddbmm(bias[:, None], x, weight.mT)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = torch.bmm(grad, weight) if ctx.needs_input_grad[0] else None
        return of_x, torch.bmm(grad.mT, x), grad.sum(1) if ctx.biased else None


class _Masked(nn.Module):
    """Dropout with the masks that each of the runs would draw alone."""

    def __init__(self, layer: nn.Dropout, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.layer, self.generators = layer, generators

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.layer.p:
            return x
        parts = x.chunk(len(self.generators))
        masks = [_mask(part, self.layer, own) for part, own in zip(parts, self.generators, strict=True)]
        return x * torch.cat(masks)


def _mask(x: Tensor, layer: nn.Dropout, generator: torch.Generator) -> Tensor:
    """Return what a layer multiplies `x` by, in training."""
    dropped = round(layer.p * LEVELS)
    if isinstance(layer, Dropout) and dropped not in (0, LEVELS):
        return kept(x, dropped, generator).mul_(LEVELS / (LEVELS - dropped))
    mask = torch.empty_like(x, memory_format=torch.contiguous_format)
    return mask.bernoulli_(1 - layer.p, generator=generator).div_(1 - layer.p)
