"""Errors of the processes that read batches ahead, raised as if this process had read the batch itself.

torch raises them with the whole traceback as their message, and those that it cannot build as another kind.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from torch.utils.data import DataLoader, get_worker_info

from equipoise.files.limits import check_machine, machine_limit
from equipoise.types import DataError, EquipoiseError, MachineLimitError, RunFolderError, UsageError

_KINDS: Final = (MachineLimitError, DataError, UsageError, RunFolderError, EquipoiseError)
"""What an error becomes: not every one can be pickled."""


@dataclass(frozen=True)
class Failed:
    """Stands for a batch that could not be read.

    Attributes:
        kind: of the error.
        text: its message.
    """

    kind: type[EquipoiseError]
    text: str


def failed(error: Exception) -> Failed:
    """Return what to send instead of a batch.

    Raises:
        Exception: the error, in the process that trains, and if it is a fault of ours.
    """
    if get_worker_info() is None:
        raise error
    known: BaseException = machine_limit(error) or error
    if isinstance(known, EquipoiseError):
        return Failed(next(kind for kind in _KINDS if isinstance(known, kind)), str(known))
    if isinstance(error, OSError) and error.filename:
        name = os.fsdecode(error.filename)
        return Failed(DataError, f"cannot read {name} ({error.strerror}); check its permissions and disk.")
    raise error


def received(items: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches of a loader that reads ahead.

    Raises:
        EquipoiseError: one could not be read.
        MachineLimitError: a process that reads has ended.
    """
    try:
        for item in items:
            if isinstance(item, Failed):
                raise item.kind(item.text)
            yield item
    except RuntimeError as error:
        check_machine(error)
        raise


class ReadingAhead(DataLoader[Any]):
    """A loader whose processes tell what they could not read; see `received`."""

    def __iter__(self) -> Any:
        found = super().__iter__()
        return received(found) if self.num_workers else found
