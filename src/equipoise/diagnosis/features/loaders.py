"""Read a loader's dataset in order, share it out among processes, and leave its generators unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
import torch.distributed as dist
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from equipoise.distributed import process_count


@dataclass(frozen=True)
class Share:
    """The part of a dataset that one process reads under a distributed sampler."""

    size: int
    rank: int
    processes: int

    @classmethod
    def of(cls, loader: Any) -> Share | None:
        """Return the share of this process; None if every process reads the whole dataset."""
        if _is_of_accelerate(loader):
            whole = isinstance(_innermost(loader).sampler, SequentialSampler | RandomSampler)
            if not whole or process_count() == 1:
                return None
            return cls(len(loader.dataset), dist.get_rank(), process_count())
        if not _rebuildable(loader) or not isinstance(loader.sampler, DistributedSampler):
            return None
        sampler = loader.sampler
        if sampler.dataset is not loader.dataset or process_count() != sampler.num_replicas:
            return None
        return cls(len(sampler.dataset), sampler.rank, sampler.num_replicas)  # type: ignore[arg-type]

    @property
    def counts(self) -> list[int]:
        """Samples of each process, by rank."""
        return [len(range(rank, self.size, self.processes)) for rank in range(self.processes)]

    def loader(self, loader: Any) -> DataLoader[Any]:
        """Return a loader of the samples `rank, rank + processes, ...`.

        Models may communicate in each forward pass, so every process gets the same number of samples: a
        shorter share repeats the last sample of the dataset, to be dropped beyond `counts`.
        """
        own = [*range(self.rank, self.size, self.processes)]
        own += [self.size - 1] * (-(-self.size // self.processes) - len(own))
        return _rebuilt(loader, own)


def in_order(loader: Any) -> Any:
    """Return a shuffled `DataLoader` in the order of its dataset; any other loader unchanged."""
    if not _rebuildable(loader) and not _is_of_accelerate(loader):
        return loader
    sampler = _innermost(loader).sampler if _is_of_accelerate(loader) else loader.sampler
    if isinstance(sampler, SubsetRandomSampler):
        return _rebuilt(loader, sorted(sampler.indices))
    if not isinstance(sampler, RandomSampler) or sampler.replacement:
        return loader
    return _rebuilt(loader, None)


@contextmanager
def untouched_generators(loader: Iterable[Any]) -> Iterator[None]:
    """Restore the random states of a loader's own generators, and of its samplers', after the block."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    samplers = [getattr(loader, "sampler", None), getattr(batch_sampler, "sampler", None)]
    generators = [
        generator
        for owner in (loader, batch_sampler, *samplers)
        if isinstance(generator := getattr(owner, "generator", None), torch.Generator)
    ]
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _rebuildable(loader: Iterable[Any]) -> TypeGuard[DataLoader[Any]]:
    """Return whether dataset and sampler alone determine the loader's batches."""
    return (
        isinstance(loader, DataLoader)
        and loader.batch_size is not None
        and type(loader).__iter__ is DataLoader.__iter__
    )


def _is_of_accelerate(loader: Any) -> bool:
    """Return whether `accelerate` has prepared the loader, and its dataset can be read in any order."""
    return type(loader).__module__ == "accelerate.data_loader" and not isinstance(
        getattr(loader, "dataset", None), IterableDataset | None
    )


def _innermost(loader: Any) -> Any:
    """Return the batch sampler that `accelerate` has wrapped."""
    found = loader.batch_sampler
    while not hasattr(found, "sampler"):
        found = found.batch_sampler
    return found


def _rebuilt(loader: DataLoader[Any], chosen: list[int] | None) -> DataLoader[Any]:
    return DataLoader(
        loader.dataset,
        batch_size=_innermost(loader).batch_size,
        sampler=chosen,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        worker_init_fn=loader.worker_init_fn,
    )
