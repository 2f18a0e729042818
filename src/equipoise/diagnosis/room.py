"""Room for features: memory, or files where features outgrow it.

A file holds the same numbers in the same precision, so no result depends on how much memory there is. It lies
in the folder of temporary files (`TMPDIR`), has no name, and is gone with the array or the process.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from equipoise.files.limits import check_machine
from equipoise.types import ModelError, NoSpaceError

SHARE: Final = 1 / 32
"""Largest array that is held in memory, as a share of it; a diagnosis holds a few at a time."""
CGROUPS: Final = tuple(
    Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory/memory.limit_in_bytes")
)
"""Files that hold the limit of a container, in the second and the first version of control groups."""


@lru_cache(maxsize=1)
def largest_in_memory() -> int:
    """Return the bytes of the largest array that is held in memory."""
    try:
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):  # not on Windows
        limits = [8 * 2**30]
    for path in CGROUPS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return int(SHARE * min(limits))


def room(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array to be filled: in memory, or mapped from a file if it is large.

    Raises:
        NoSpaceError: the disk has no room for it.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= largest_in_memory():
        return np.empty(shape, dtype)
    file = _file()
    try:
        # Without blocks of its own a mapped file ends the process when the disk is full.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError as error:
        raise _full(size, error) from None
    return _mapped(file, shape, dtype)


def copied(x: NDArray[Any], dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Return a copy of an array, in another precision if `dtype` is given; see `room`."""
    copy = room(x.shape, dtype or x.dtype)
    np.copyto(copy, x)
    return copy


def taken(x: Tensor, rows: NDArray[np.int64]) -> Tensor:
    """Return some rows of a tensor `[N, d]` on the CPU, in the order of `rows`; see `room`."""
    found = room((len(rows), *x.shape[1:]), x.numpy().dtype)
    np.take(x.numpy(), rows, axis=0, out=found, mode="clip")  # another mode would hold them twice
    return torch.from_numpy(found)


class Rows:
    """Rows `[N, d]` that come in batches.

    Args:
        name: what they are, in errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._batches: list[Tensor] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._shape = (0, 0)
        self._dtype = torch.float32

    def add(self, batch: Tensor) -> None:
        """Keep a batch `[B, d]`, on the CPU.

        Raises:
            ModelError: its width differs from that of the first.
            NoSpaceError: the disk has no room for it.
        """
        count, width = self._shape
        if count and batch.shape[1] != width:
            raise ModelError(
                f"{self._name} has {batch.shape[1]} features in a batch after {width} in the first; expected "
                "the same width for all samples: pool over whatever differs in length (pool=)."
            )
        self._dtype = self._dtype if count else batch.dtype
        self._shape = count + len(batch), batch.shape[1]
        self._batches.append(batch)
        self._held += batch.nbytes
        if self._held > largest_in_memory() or self._file:
            self._write()

    def whole(self) -> Tensor:
        """Return all rows; afterwards none is kept."""
        if self._file is None:
            whole = torch.cat(self._batches)
            self._batches.clear()
            return whole
        self._file.flush()
        dtype = torch.empty(0, dtype=self._dtype).numpy().dtype
        return torch.from_numpy(_mapped(self._file, self._shape, dtype))

    def _write(self) -> None:
        self._file = self._file or _file()
        try:
            for batch in self._batches:
                self._file.write(batch.to(self._dtype).contiguous().numpy().data)
        except OSError as error:
            raise _full(self._held, error) from None
        self._batches.clear()


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="equipoise-")


def _mapped(file: IO[bytes], shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return the content of a file as an array, which keeps the mapping alive and with it the file."""
    mapping = mmap.mmap(file.fileno(), 0)
    file.close()
    return np.frombuffer(mapping, dtype).reshape(shape)


def _full(size: int, error: OSError) -> NoSpaceError:
    check_machine(error)
    return NoSpaceError(
        f"{size / 1e9:.1f} GB of features do not fit into memory, nor into {tempfile.gettempdir()} "
        f"({(error.strerror or str(error)).lower()}); expected room for them: name another folder by TMPDIR, "
        "or measure a sample (max_samples)."
    )
