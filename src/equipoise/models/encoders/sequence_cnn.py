"""Convolutional encoder of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.stages import Stages, in_stages
from equipoise.models.options import positive, positive_sizes
from equipoise.types import UsageError


class SequenceCNN(Encoder):
    """Convolutions over time with batch normalisation, averaged over the sequence.

    Padding preserves the length, so that sequences of any length are accepted, including one step.

    Args:
        in_features: features `d` of each step of the input `[B, T, d]`.
        channels: channels of each layer; the last number is `out_features`.
        kernel_size: number of steps of a kernel, odd.
    """

    name: ClassVar[str] = "sequence-cnn"
    kinds: ClassVar[tuple[str, ...]] = ("sequence",)
    channel_dim: ClassVar[int | None] = 1

    def __init__(
        self, in_features: int, *, channels: Sequence[int] = (64, 128), kernel_size: int = 5
    ) -> None:
        super().__init__(in_features)
        widths = positive_sizes("channels", channels)
        size = positive("kernel_size", kernel_size)
        if size % 2 == 0:
            raise UsageError(f"option 'kernel_size' must be odd to keep the length; found {size}.")
        layers: list[nn.Module] = []
        for before, after in pairwise((in_features, *widths)):
            layers += [nn.Conv1d(before, after, size, padding=size // 2, bias=False)]
            layers += [nn.BatchNorm1d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.stage_widths = widths
        self.out_features = widths[-1]

    def stages(self, x: Tensor) -> Stages:
        """Encode sequences: `[B, T, d]` to `[B, out_features]`, with a stage `[B, channels, T]` per layer."""
        steps = yield from in_stages(self.layers, len(self.stage_widths), x.transpose(1, 2))
        return steps.mean(dim=2)
