"""Temporal convolutional network (TCN) with dilation (Bai, Kolter, Koltun, 2018, arXiv 1803.01271)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.models.dropout import Dropout
from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.stages import MASKS, Stages, masked_max, masked_mean
from equipoise.models.options import one_of, positive, probability
from equipoise.types import UsageError


class TemporalCNN(Encoder):
    """Residual blocks of dilated convolutions over time; the mean and the maximum over the steps.

    Block `i` has dilation `2^i`: with four blocks and kernels of 3, a step of the last map depends on 30
    steps on both sides. Unlike the published network it is not causal, and it has batch normalisation in
    place of weight normalisation.

    Args:
        in_features: features `d` of each step of the input `[B, T, d]`.
        width: channels of all maps; `out_features` is twice as many.
        blocks: number of blocks.
        kernel_size: number of steps of a kernel, odd.
        dropout: probability of dropping a unit between the convolutions of a block.
        mask: see `MASKS`. Padding affects neither other steps nor the statistics of normalisation.
    """

    name: ClassVar[str] = "tcn"
    kinds: ClassVar[tuple[str, ...]] = ("sequence",)
    channel_dim: ClassVar[int | None] = -1

    def __init__(
        self,
        in_features: int,
        *,
        width: int = 64,
        blocks: int = 4,
        kernel_size: int = 3,
        dropout: float = 0.1,
        mask: str = "none",
    ) -> None:
        super().__init__(in_features)
        width, size = positive("width", width), positive("kernel_size", kernel_size)
        if size % 2 == 0:
            raise UsageError(f"option 'kernel_size' must be odd to keep the length; found {size}.")
        self.mask, rate = one_of("mask", mask, MASKS), probability("dropout", dropout)
        self.projection = nn.Linear(in_features, width)
        self.blocks = nn.ModuleList(
            DilatedBlock(width, size, 2**place, rate) for place in range(positive("blocks", blocks))
        )
        self.stage_widths = (width,) * len(self.blocks)
        self.out_features = 2 * width

    def stages(self, x: Tensor) -> Stages:
        """Encode sequences: `[B, T, d]` to `[B, out_features]`, with a stage `[B, T, d]` for each block."""
        padding, steps = self.padding(x), self.projection(x)
        for block in self.blocks:
            steps = yield block(steps, padding)
        return torch.cat([masked_mean(steps, padding), masked_max(steps, padding)], dim=1)


class DilatedBlock(nn.Module):
    """Two dilated convolutions with a shortcut: `relu(F(x) + x)` on steps `[B, T, width]`."""

    def __init__(self, width: int, kernel_size: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = SameConv1d(width, kernel_size, dilation)
        self.norm1 = nn.BatchNorm1d(width)
        self.dropout = Dropout(dropout)
        self.conv2 = SameConv1d(width, kernel_size, dilation)
        self.norm2 = nn.BatchNorm1d(width)

    def forward(self, steps: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return the next map; `padding` `[B, T]` (bool) is True at steps that others must not read."""
        inner = self.dropout(F.relu(self._convolved(self.conv1, self.norm1, steps, padding)))
        return F.relu(steps + self._convolved(self.conv2, self.norm2, inner, padding))

    @staticmethod
    def _convolved(conv: nn.Module, norm: nn.Module, steps: Tensor, padding: Tensor | None) -> Tensor:
        if padding is None:
            maps: Tensor = conv(steps.transpose(1, 2)).transpose(1, 2)
            normed: Tensor = norm(maps.flatten(0, 1))
            return normed.reshape(maps.shape)
        kept = ~padding
        maps = conv(steps.masked_fill(padding[:, :, None], 0.0).transpose(1, 2)).transpose(1, 2)
        if torch.compiler.is_exporting():  # a program has no tensor whose size depends on the values
            normed = norm(maps.flatten(0, 1)).reshape(maps.shape)
            return normed.masked_fill(padding[:, :, None], 0.0)
        values: Tensor = norm(maps[kept])
        return torch.zeros_like(maps, dtype=values.dtype).masked_scatter(kept[:, :, None], values)


class SameConv1d(nn.Conv1d):
    """Convolution of sequences `[B, width, T]` that keeps their length.

    They are read as images of height 1: torch does not copy those whose channels are side by side in memory,
    which saves a third of the time on a CPU.
    """

    def __init__(self, width: int, kernel_size: int, dilation: int) -> None:
        # No bias: batch normalisation would subtract it with the mean.
        same = dilation * (kernel_size // 2)
        super().__init__(width, width, kernel_size, padding=same, dilation=dilation, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the convolved sequences `[B, width, T]`."""
        padding, dilation = (0, int(self.padding[0])), (1, self.dilation[0])
        weight = self.weight.unsqueeze(2)
        return F.conv2d(maps.unsqueeze(2), weight, padding=padding, dilation=dilation).squeeze(2)
