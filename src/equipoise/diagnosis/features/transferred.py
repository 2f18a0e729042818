"""A loader whose batches a trainer changes on their way to the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any


@dataclass(frozen=True)
class Transferred:
    """A loader whose batches a trainer changes before the model gets them; read in order like the loader.

    Attributes:
        loader: the trainer's loader.
        transfer: from a batch of the loader to the model's.
        length: batches of an epoch; None if the loader decides.
    """

    loader: Any
    transfer: Callable[[Any], Any]
    length: int | None = None

    def __iter__(self) -> Iterator[Any]:
        return islice(map(self.transfer, self.loader), self.length)

    def __len__(self) -> int:
        return len(self.loader) if self.length is None else self.length
