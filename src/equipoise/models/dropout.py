"""Dropout whose masks cost little on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEVELS = 2**16


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, which on a CPU draws its masks from 16 random bits for each number.

    Torch draws a double for each number there, which in a small model takes longer than its linear layers.
    The probability is rounded to 1/65536, and what remains is scaled by the rounded one, so that its
    expectation is exactly the input. Elsewhere it is torch's.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` of any shape with some numbers at zero, the others scaled; in evaluation mode, `x`."""
        if not self.training or x.device.type != "cpu" or self.inplace:
            return super().forward(x)
        dropped = round(self.p * LEVELS)
        if dropped in (0, LEVELS):
            return super().forward(x)
        return x * kept(x, dropped).mul_(LEVELS / (LEVELS - dropped))


def kept(x: Tensor, dropped: int, generator: torch.Generator | None = None) -> Tensor:
    """Return ones in the shape and dtype of `x`, and zeros with a probability of `dropped` in 65536."""
    count = x.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)
    levels = words.view(torch.int16)[:count].view(x.shape)
    return (levels >= dropped - LEVELS // 2).to(x.dtype)
