"""Run an encoder stage by stage, so that somebody outside may change what passes between its stages."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from torch import Tensor, nn

Stages = Generator[Tensor, Tensor, Tensor]
"""Yields the map after each stage, is sent the map to go on with, and returns the feature `[B, d]`."""


@dataclass(frozen=True)
class StagedPass:
    """The feature that an encoder has computed stage by stage.

    Who drives the stages ends by calling the encoder with it: the encoder gives the value back, and its
    forward hooks see the final feature as they do after an ordinary call.

    Attributes:
        value: `[B, out_features]`.
    """

    value: Tensor


class StagedRun:
    """One pass through an encoder's stages that stops after each.

    Args:
        stages: what `Encoder.stagewise` returned.

    Attributes:
        map: the map after the stage that was run last.
        feature: `[B, out_features]` once the last map has been sent, None before.
    """

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self.map = next(stages)
        self.feature: Tensor | None = None

    def send(self, changed: Tensor) -> None:
        """Go on with a map, which may be another one than `map`, to the end of the next stage."""
        try:
            self.map = self._stages.send(changed)
        except StopIteration as end:
            self.feature = end.value


def unchanged(stages: Stages) -> Tensor:
    """Run all stages without a change and return the feature `[B, out_features]`."""
    run = StagedRun(stages)
    while run.feature is None:
        run.send(run.map)
    return run.feature


def masked_mean(steps: Tensor, padding: Tensor | None) -> Tensor:
    """Return the mean over the steps of `[B, T, d]` that are no padding: `[B, d]`.

    Args:
        steps: `[B, T, d]`.
        padding: `[B, T]` (bool), True where a step is padding, never everywhere; None where none is.
    """
    if padding is None:
        return steps.mean(dim=1)
    kept = (~padding).to(steps.dtype)[:, :, None]
    # Chosen, not multiplied away: what stands at padding need not be finite.
    return steps.masked_fill(padding[:, :, None], 0.0).sum(dim=1) / kept.sum(dim=1)


def in_stages(layers: nn.Sequential, count: int, x: Tensor) -> Stages:
    """Run layers in `count` groups of the same length, a stage each; the last map, as sent, is returned."""
    length = len(layers) // count
    for number, layer in enumerate(layers, start=1):
        x = layer(x)
        if number % length == 0:
            x = yield x
    return x
