"""How many CPU threads a run computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

SMALL_MODEL = 2_000_000
"""Parameters below which threads cost more time than they save."""


@contextmanager
def cpu_threads(model: nn.Module, wanted: int | None = None) -> Iterator[None]:
    """Run a block with `wanted` threads; by default one for a small model, else what torch has chosen.

    Threads that wait for each other spin, so that a small model on a busy machine runs many times slower on
    two threads than on one.
    """
    before = torch.get_num_threads()
    if wanted is None:
        small = sum(parameter.numel() for parameter in model.parameters()) < SMALL_MODEL
        wanted = 1 if small else before
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
