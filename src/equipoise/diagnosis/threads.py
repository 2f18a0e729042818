"""Independent measurements side by side, with the numbers that they have one after the other."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")

AT_ONCE: Final = 2
"""Measurements at a time: each holds a copy of its features, so that more would cost more memory."""


def in_turn_or_two(work: Callable[[Item], Result], items: Sequence[Item], *, together: bool) -> list[Result]:
    """Return `work` of each item, in order; with `together` two run at a time where there are two cores.

    Either way every piece of work computes on one thread: the sums of several arrive in any order.
    """

    def alone(item: Item) -> Result:
        with threadpool_limits(limits=1):  # OpenMP's limit is one of each thread, BLAS's of the process
            return work(item)

    # Threads that silence warnings would restore each other's filters; this restores the caller's.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # What the measures silence must be silent here, too: the filter of one thread may end with another's.
        warnings.filterwarnings("ignore", message="self.within_class_std_dev_", category=UserWarning)
        warnings.filterwarnings("ignore", message="Number of distinct clusters", category=UserWarning)
        warnings.filterwarnings("ignore", message="lbfgs failed to converge", category=UserWarning)
        if not together or len(items) < 2 or (os.cpu_count() or 1) < 2:
            return [alone(item) for item in items]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(alone, items))
