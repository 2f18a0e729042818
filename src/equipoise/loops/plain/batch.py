"""A batch of anybody's loader, as methods see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from equipoise.diagnosis.features.reading import BatchReader, move_batch
from equipoise.types import Batch


@dataclass(frozen=True, slots=True)
class HandBatch(Batch):
    """Samples whose inputs only the user's model understands.

    Attributes:
        pieces: the batches as the loader gave them; several where gradients of several were accumulated.
        sizes: number of samples of each piece.
    """

    pieces: tuple[Any, ...] = ()
    sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, raw: Any, reader: BatchReader) -> HandBatch:
        """Return a loader's batch."""
        target = reader.target(raw)
        size = int(target.shape[0])
        return cls({}, target, torch.arange(size), None, (raw,), (size,))

    @classmethod
    def joined(cls, batches: Sequence[HandBatch]) -> HandBatch:
        """Return several batches as one."""
        target = torch.cat([batch.target for batch in batches])
        pieces = tuple(piece for batch in batches for piece in batch.pieces)
        sizes = tuple(size for batch in batches for size in batch.sizes)
        return cls({}, target, torch.arange(len(target)), None, pieces, sizes)

    def to(self, device: object, non_blocking: bool = False) -> HandBatch:
        """Return the batch on `device`."""
        where = device if isinstance(device, torch.device) else torch.device(str(device))
        pieces = tuple(move_batch(piece, where) for piece in self.pieces)
        return HandBatch({}, self.target.to(where), self.index, None, pieces, self.sizes)
