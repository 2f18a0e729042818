"""Processes that share rows, as threads that exchange numbers in memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from equipoise.sharing import Blocks

REDUCED = {dist.ReduceOp.SUM: np.sum, dist.ReduceOp.MIN: np.min, dist.ReduceOp.MAX: np.max}


@dataclass(frozen=True)
class Together(Blocks):
    meet: Barrier = field(kw_only=True)
    table: list[Any] = field(kw_only=True)

    def chosen(self, rows: NDArray[np.int64]) -> Blocks:
        own = super().chosen(rows)
        return Together(own.sizes, own.rank, meet=self.meet, table=self.table)

    def joined(self, own: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate(self._everyones(own))

    def _reduced(self, values: NDArray[Any], operation: Any) -> NDArray[Any]:
        return np.asarray(REDUCED[operation](np.stack(self._everyones(np.array(values))), axis=0))

    def _everyones(self, own: Any) -> list[Any]:
        self.table[self.rank] = own
        self.meet.wait(30)
        found = list(self.table)
        self.meet.wait(30)
        return found


def in_threads(sizes: list[int], work: Callable[[Blocks], Any]) -> list[Any]:
    """Call `work` with the blocks of each process; return the results by rank."""
    shared = {"meet": Barrier(len(sizes)), "table": [None] * len(sizes)}
    with ThreadPoolExecutor(len(sizes)) as pool:
        return list(pool.map(lambda rank: work(Together(tuple(sizes), rank, **shared)), range(len(sizes))))
