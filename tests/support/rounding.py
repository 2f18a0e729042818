"""How far two results in float32 may lie apart that differ only in the order of their sums.

Tests that can work in float64 use the fixture `float64` and a fixed bound. This module is for what is float32
in the end: runs of the toolkit's own trainer, and the files they write.
"""

from __future__ import annotations

import torch
from torch import Tensor


def allowance(size: float, terms: int, steps: int = 1, dtype: torch.dtype = torch.float32) -> float:
    """Return the largest difference that the order of summation may make.

    In whatever order `terms` numbers are added, the error is at most `terms` units of rounding of the sum of
    their magnitudes (Higham 2002, section 4.2), and a unit is half of `eps`. Two orders differ by twice that.
    Where the results are weights, each step of their training adds a difference of this kind.

    Args:
        size: magnitude of the numbers.
        terms: how many are added up in one result: the samples of a batch, the inputs of a layer.
        steps: steps of an optimiser that follow each other.
        dtype: type of the numbers.
    """
    return float(torch.finfo(dtype).eps) * terms * steps * size


def assert_equal_but_for_rounding(found: Tensor, expected: Tensor, terms: int, steps: int = 1) -> None:
    """Check that two tensors differ by no more than `allowance`; the size is that of the largest number."""
    size = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0, atol=allowance(size, terms, steps))
