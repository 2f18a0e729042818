"""Dropout whose masks cost little on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equipoise.sharing import SharedDraws, shared_draws

LEVELS = 2**16


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, which on a CPU draws its masks from 16 random bits for each number.

    Torch draws a double for each number there, which in a small model takes longer than its linear layers.
    The probability is rounded to 1/65536, and what remains is scaled by the rounded one, so that its
    expectation is exactly the input. Elsewhere it is torch's.

    Of a batch that processes share, every process draws the mask of all samples, and uses that of its own:
    the masks are those of one process.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` of any shape with some numbers at zero, the others scaled; in evaluation mode, `x`."""
        if not self.training or x.device.type != "cpu" or self.inplace:
            return super().forward(x)
        dropped = round(self.p * LEVELS)
        if dropped in (0, LEVELS):
            return super().forward(x)
        draws = shared_draws()
        mask = kept(x, dropped) if draws is None else _own_part(x, dropped, draws)
        return x * mask.mul_(LEVELS / (LEVELS - dropped))


def _own_part(x: Tensor, dropped: int, draws: SharedDraws) -> Tensor:
    """Return `kept` of the rows `x` of this process; each sample has the same number of them."""
    rows = x.shape[0] // max(1, len(draws.mine))
    whole = kept(x.new_empty((draws.total * rows, *x.shape[1:])), dropped, draws.generator)
    return whole.view(draws.total, rows, *x.shape[1:])[draws.mine].reshape(x.shape)


def kept(x: Tensor, dropped: int, generator: torch.Generator | None = None) -> Tensor:
    """Return ones in the shape and dtype of `x`, and zeros with a probability of `dropped` in 65536."""
    count = x.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)
    levels = words.view(torch.int16)[:count].view(x.shape)
    return (levels >= dropped - LEVELS // 2).to(x.dtype)
