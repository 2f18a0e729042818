"""Run an encoder stage by stage, so that the maps between its stages can be changed."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MASKS = ("none", "ends")
"""Which steps of sequences are padding: none, or those that repeat at the start or end of a sequence.

This also finds padding with zeros after normalisation, when it is no longer zero.
"""
Stages = Generator[Tensor, Tensor, Tensor]
"""Yields the map after each stage, receives the input of the next one, and returns the feature `[B, d]`."""


@dataclass(frozen=True)
class StagedPass:
    """The feature of a forward pass by stages.

    The final step of such a pass is to call the encoder with this object: the encoder returns the value, and
    its forward hooks receive the feature as after an ordinary call.

    Attributes:
        value: `[B, out_features]`.
    """

    value: Tensor


class StagedRun:
    """A forward pass through an encoder that stops after each stage.

    Args:
        stages: the result of `Encoder.stagewise`.

    Attributes:
        map: the map after the last stage that has run.
        feature: `[B, out_features]` after the last stage, None before.
    """

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self.map = next(stages)
        self.feature: Tensor | None = None

    def send(self, changed: Tensor) -> None:
        """Run the next stage with this map as input."""
        try:
            self.map = self._stages.send(changed)
        except StopIteration as end:
            self.feature = end.value


def unchanged(stages: Stages) -> Tensor:
    """Run all stages without changing maps and return the feature `[B, out_features]`."""
    run = StagedRun(stages)
    while run.feature is None:
        run.send(run.map)
    return run.feature


def masked_mean(steps: Tensor, padding: Tensor | None) -> Tensor:
    """Return the mean over the steps of `[B, T, d]` that are not padding: `[B, d]`.

    The padding `[B, T]` (bool) is True at padding, but not at all steps of a sample; None is no padding.
    """
    if padding is None:
        return steps.mean(dim=1)
    kept = (~padding).to(steps.dtype)[:, :, None]
    # A multiplication by 0 would keep values at padding that are not finite.
    return steps.masked_fill(padding[:, :, None], 0.0).sum(dim=1) / kept.sum(dim=1)


def masked_max(steps: Tensor, padding: Tensor | None) -> Tensor:
    """Return the maximum over the steps of `[B, T, d]` that are not padding: `[B, d]`; see `masked_mean`."""
    read = steps if padding is None else steps.masked_fill(padding[:, :, None], -torch.inf)
    return read.amax(dim=1)


def with_one_step(padding: Tensor) -> Tensor:
    """Return padding `[B, T]` (bool) with at least one step to read: attention over none would be 0 / 0."""
    return torch.cat([padding[:, :1] & ~padding.all(dim=1, keepdim=True), padding[:, 1:]], dim=1)


def repeated_ends(x: Tensor) -> Tensor:
    """Return which steps of sequences `[B, T, d]` belong to a run of equal steps at an end, `[B, T]` (bool).

    Of a constant sequence, the first step is not padding; see `with_one_step`.
    """
    if x.shape[1] < 2:
        return torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    changes = (x[:, 1:] != x[:, :-1]).any(dim=2).long()  # between each step and the next
    front = changes.cumsum(dim=1) == 0
    back = changes.flip(1).cumsum(dim=1).flip(1) == 0
    return with_one_step(torch.cat([front[:, :1], front], dim=1) | torch.cat([back, back[:, -1:]], dim=1))


def in_stages(layers: nn.Sequential, count: int, x: Tensor) -> Stages:
    """Run layers in `count` stages of equal length; return the last map after the change."""
    length = len(layers) // count
    for number, layer in enumerate(layers, start=1):
        x = layer(x)
        if number % length == 0:
            x = yield x
    return x
