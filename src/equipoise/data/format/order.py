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

    The batches are those of all processes that share them (`SplitData`), however many these are.

    Args:
        count: number of samples N.
        batch_size: of a batch, over all processes.
        seed: of the run; the order of epoch `e` is drawn from `derive_seed(seed, "order", e)`.
        shuffle: draw an order, for training; otherwise positions are sequential.
        processes: number of processes; each has a sample of every batch.

    Raises:
        UsageError: the batch size is invalid.
        DataError: fewer samples than processes.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        processes: int = 1,
    ) -> None:
        if batch_size < processes:
            raise UsageError(
                f"batch_size is {batch_size} for {processes} processes; it counts the samples of all "
                "processes together: give at least one for each process."
            )
        if count < processes:
            raise DataError(f"there are {count} samples for {processes} processes; use fewer processes.")
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.processes = processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; it does not advance automatically."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._bounds())

    def __iter__(self) -> Iterator[list[int]]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
            order = torch.randperm(self.count, generator=generator).tolist()
        else:
            order = list(range(self.count))
        for start, stop in self._bounds():
            positions = order[start:stop]
            yield Positions(positions, self.epoch) if self.shuffle else positions

    def _bounds(self) -> list[tuple[int, int]]:
        starts = list(range(0, self.count, self.batch_size))
        # Batch normalisation cannot train on one sample, and every process needs one: a last batch that is
        # too small is merged into the batch before it.
        least = min(self.batch_size, max(self.processes, 2 if self.shuffle else 1))
        if len(starts) > 1 and self.count - starts[-1] < least:
            starts.pop()
        return list(zip(starts, [*starts[1:], self.count], strict=True))
