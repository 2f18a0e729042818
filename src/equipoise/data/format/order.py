"""The order of samples in an epoch: a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch.utils.data import Sampler

from equipoise.randomness import derive_seed
from equipoise.types import DataError, UsageError


class Positions(list[int]):
    """Positions of a training batch with their epoch, which worker processes need for augmentation.

    Attributes:
        epoch: from 0.
    """

    def __init__(self, positions: Iterable[int], epoch: int) -> None:
        super().__init__(positions)
        self.epoch = epoch

    def __reduce__(self) -> tuple[type[Positions], tuple[list[int], int]]:
        return Positions, (list(self), self.epoch)


class EpochOrder(Sampler[list[int]]):
    """Yields batches of positions; shuffled ones, for training, are `Positions` with their epoch.

    Every rank draws the same global batches and takes every `world_size`-th position of each. All ranks make
    the same number of steps, and together they use the same samples as one process.

    Args:
        count: number of samples N.
        batch_size: of a global batch, over all ranks.
        seed: of the run; the order of epoch `e` is drawn from `derive_seed(seed, "order", e)`.
        shuffle: draw an order, for training; otherwise positions are sequential.
        rank: of this process.
        world_size: number of processes.

    Raises:
        UsageError: batch size, rank or world size is invalid.
        DataError: fewer samples than processes.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise UsageError(f"rank is {rank} of {world_size} processes; expected 0 to world_size - 1.")
        if batch_size < world_size:
            raise UsageError(
                f"batch_size is {batch_size} for {world_size} processes; it counts the samples of all "
                "processes together: give at least one for each process."
            )
        if count < world_size:
            raise DataError(f"there are {count} samples for {world_size} processes; use fewer processes.")
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; it does not advance automatically."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of batches, equal on all ranks."""
        return len(self._bounds())

    def __iter__(self) -> Iterator[list[int]]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
            order = torch.randperm(self.count, generator=generator).tolist()
        else:
            order = list(range(self.count))
        for start, stop in self._bounds():
            positions = order[start + self.rank : stop : self.world_size]
            yield Positions(positions, self.epoch) if self.shuffle else positions

    def _bounds(self) -> list[tuple[int, int]]:
        starts = list(range(0, self.count, self.batch_size))
        # Batch normalisation cannot train on one sample, and every process needs one: a last batch that is
        # too small is merged into the batch before it.
        least = min(self.batch_size, self.world_size * (2 if self.shuffle else 1))
        if len(starts) > 1 and self.count - starts[-1] < least:
            starts.pop()
        return list(zip(starts, [*starts[1:], self.count], strict=True))
