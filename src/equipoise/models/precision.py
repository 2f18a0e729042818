"""Scores and directions, in at least float32."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """Return a tensor in float32, or as it is where it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def unit_rows(x: Tensor, eps: float = 1e-12) -> Tensor:
    """Return the rows `[N, d]` scaled to length one, in float32 or wider.

    A row shorter than `eps` becomes zero without gradient; the quotient's gradient would be `1 / eps`.
    """
    x = widened(x)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    unit: Tensor = x * (norm > eps) / norm.clamp_min(eps)
    return unit
