"""CPU threads: how many a block computes with, and independent work side by side."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

import torch
from threadpoolctl import threadpool_limits
from torch import nn

Item = TypeVar("Item")
Result = TypeVar("Result")

SMALL_MODEL: Final = 2_000_000
"""Parameters below which several threads cost more time than they save."""
AT_ONCE: Final = 2
"""Measurements at a time: each holds a copy of its features, so more would need more memory."""


@contextmanager
def cpu_threads(model: nn.Module, wanted: int | None = None) -> Iterator[None]:
    """Run a block with `wanted` threads; by default one for a small model, else torch's own number.

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


def in_turn_or_two(work: Callable[[Item], Result], items: Sequence[Item], *, together: bool) -> list[Result]:
    """Return `work` of each item, in order; with `together` two run at a time where there are two cores.

    Each runs on one thread, as several threads add up in any order: the results are the same either way.
    """

    def alone(item: Item) -> Result:
        with threadpool_limits(limits=1):  # OpenMP's limit is one of each thread, BLAS's of the process
            return work(item)

    # Threads that filter warnings restore each other's filters; this restores the caller's.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # What the measures ignore is ignored here too, as one thread's filter may end with another's.
        warnings.filterwarnings("ignore", message="self.within_class_std_dev_", category=UserWarning)
        warnings.filterwarnings("ignore", message="Number of distinct clusters", category=UserWarning)
        warnings.filterwarnings("ignore", message="lbfgs failed to converge", category=UserWarning)
        if not together or len(items) < 2 or (os.cpu_count() or 1) < 2:
            return [alone(item) for item in items]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(alone, items))
