"""Positions of samples in the training split: random draws and batches."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from equipoise.tasks import CLASSIFICATION, task_of


def stratified(target: Tensor, share: float, generator: torch.Generator, *, leave: int = 1) -> Tensor:
    """Draw a share of each class, at least one sample, and leave some: `[N]` (bool), true where drawn.

    Of a multilabel `[N, C]` or regression `[N]` target a share of all samples is drawn.
    """
    drawn = torch.zeros(len(target), dtype=torch.bool)
    if task_of(target) is not CLASSIFICATION:
        target = torch.zeros(len(target), dtype=torch.int64)
    for label in sorted(set(target.tolist())):
        where = (target == label).nonzero()[:, 0]
        count = min(max(round(share * len(where)), 1), len(where) - leave)
        drawn[where[torch.randperm(len(where), generator=generator)[:count]]] = True
    return drawn


def shuffled(positions: Tensor, size: int, generator: torch.Generator) -> Iterable[Tensor]:
    """Return positions in random order, in chunks of at most `size`."""
    return chunks(positions[torch.randperm(len(positions), generator=generator)], size)


def chunks(positions: Tensor, size: int) -> Iterable[Tensor]:
    """Return positions in chunks of nearly equal sizes of at most `size`, so that no chunk is tiny."""
    return positions.tensor_split(max(1, math.ceil(len(positions) / size)))
