"""CPU threads: how many a block uses, and independent work in parallel."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any, Final, TypeVar

import torch
from threadpoolctl import ThreadpoolController
from torch import nn

Item = TypeVar("Item")
Result = TypeVar("Result")

SMALL_MODEL: Final = 2_000_000
"""Parameters below which several threads are slower than one."""
WORKERS: Final = 2
"""Items processed in parallel; each worker holds a copy of its features, so more would need more memory."""


@contextmanager
def cpu_threads(model: nn.Module, wanted: int | None = None) -> Iterator[None]:
    """Run a block with `wanted` threads; by default one for a small model, otherwise torch's number.

    Waiting threads spin, so that a small model on a busy machine runs many times slower on two threads than
    on one.
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


def one_thread() -> AbstractContextManager[Any]:
    """Limit BLAS and OpenMP to one thread in a block: the order of sums of several threads varies.

    OpenMP's limit is that of the calling thread, that of BLAS is the process's.
    """
    limit: AbstractContextManager[Any] = _libraries(len(sys.modules)).limit(limits=1)
    return limit


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:  # noqa: ARG001
    """Find the loaded libraries, which takes 10 ms, again only after `modules` were imported."""
    return ThreadpoolController()


def map_on_single_threads(
    work: Callable[[Item], Result], items: Sequence[Item], *, parallel: bool
) -> list[Result]:
    """Return `work` of each item, in order, each computed on one thread.

    The order of sums of several threads varies, so results are the same with and without `parallel`, which
    processes two items at a time if there are two cores.
    """

    def alone(item: Item) -> Result:
        with one_thread():
            return work(item)

    # Threads that change warning filters may restore each other's; this restores the caller's.
    with one_thread(), warnings.catch_warnings():
        # Filters that a measure sets itself may be lost while another thread ends.
        warnings.filterwarnings("ignore", message="self.within_class_std_dev_", category=UserWarning)
        warnings.filterwarnings("ignore", message="Number of distinct clusters", category=UserWarning)
        warnings.filterwarnings("ignore", message="lbfgs failed to converge", category=UserWarning)
        if not parallel or len(items) < 2 or (os.cpu_count() or 1) < 2:
            return [alone(item) for item in items]
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(alone, items))
