"""Read clips in worker processes, which write directly into the arrays on disk."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.content import row_hashes
from equipoise.data.prepare.clips import Clip, Lost, ModalityReader
from equipoise.data.prepare.journal import Outcome, clip_stamp
from equipoise.data.prepare.media.errors import MediaError
from equipoise.types import DataError, EquipoiseError, UsageError

Item = tuple[int, Clip]
CHUNK = 8
"""Samples in one task of a worker."""
WAITING = 2
"""Tasks submitted for each worker; memory does not grow with the number of clips."""


@dataclass(frozen=True)
class Crew:
    """The processes that read.

    Attributes:
        workers: number of processes; a single one is this process.
        isolated: use a separate process for a single worker, too, so that this one survives a decoder crash.
    """

    workers: int = 1
    isolated: bool = False


@dataclass(frozen=True)
class Failure:
    """An error that does not concern a single file, as text: not every exception can be pickled."""

    message: str
    exit_code: int

    def error(self) -> EquipoiseError:
        """Return it as an exception."""
        return (UsageError if self.exit_code == UsageError.exit_code else DataError)(self.message)


class RowWriter:
    """Reads clips and writes their rows; each process has one.

    Args:
        readers: modality to reader.
        files: modality to array file.
    """

    def __init__(self, readers: Mapping[str, ModalityReader], files: Mapping[str, Path]) -> None:
        self._readers = dict(readers)
        self._arrays = {name: np.load(path, mmap_mode="r+") for name, path in files.items()}

    def write(self, items: Sequence[Item]) -> list[Outcome | Failure]:
        """Read some clips; an error in one does not affect the others."""
        return [self._one(row, clip) for row, clip in items]

    def _one(self, row: int, clip: Clip) -> Outcome | Failure:
        stamp = clip_stamp(clip)
        try:
            values = {m: _stored(reader, clip) for m, reader in self._readers.items()}
            for modality, array in values.items():
                _check_finite(clip, modality, array)
        except MediaError as error:
            return Outcome(row, stamp, lost=Lost.of(clip, error))
        except EquipoiseError as error:
            return Failure(str(error), error.exit_code)
        except Exception as error:
            text = f"reading {clip.id!r} failed unexpectedly ({type(error).__name__}: {error})"
            return Failure(f"{text}; please report this with the file.", 1)
        for modality, array in values.items():
            self._arrays[modality][row] = array
        return Outcome(row, stamp, {m: row_hashes(array[None])[0] for m, array in values.items()})


def read_clips(
    items: Sequence[Item],
    readers: Mapping[str, ModalityReader],
    files: Mapping[str, Path],
    crew: Crew,
) -> Iterator[list[Outcome]]:
    """Read clips into the arrays, and yield the outcomes in the order in which they are finished.

    Args:
        items: rows and clips.
        readers: modality to reader.
        files: modality to array file.
        crew: the processes that read.

    Raises:
        EquipoiseError: a package is missing, or a reader failed unexpectedly.
    """
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    if crew.workers == 1 and not crew.isolated:
        writer = RowWriter(readers, files)
        for chunk in chunks:
            yield _checked(writer.write(chunk))
        return
    while chunks:
        suspects = yield from _in_pool(chunks, readers, files, min(crew.workers, len(chunks)))
        yield from _one_by_one(suspects, readers, files)


def _in_pool(
    chunks: list[Sequence[Item]],
    readers: Mapping[str, ModalityReader],
    files: Mapping[str, Path],
    workers: int,
) -> Generator[list[Outcome], None, list[Item]]:
    """Read `chunks` and remove them from the list; return the unfinished items if a process died."""
    pending: dict[Future[list[Outcome | Failure]], Sequence[Item]] = {}
    pool = _pool(readers, files, workers)
    try:
        while chunks or pending:
            while chunks and len(pending) < WAITING * workers:
                pending[pool.submit(_write, chunks[0])] = chunks[0]
                del chunks[0]
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                outcomes = _checked(future.result())
                del pending[future]
                yield outcomes
    except BrokenProcessPool:
        # Some of these items may be finished; reading them again gives equal rows.
        return [item for chunk in pending.values() for item in chunk]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return []


def _one_by_one(
    items: Sequence[Item], readers: Mapping[str, ModalityReader], files: Mapping[str, Path]
) -> Iterator[list[Outcome]]:
    """Read clips one at a time to find the one that crashes the decoder; only that one is lost."""
    left = list(items)
    while left:
        pool = _pool(readers, files, 1)
        try:
            while left:
                outcomes = _checked(pool.submit(_write, left[:1]).result())
                del left[0]
                yield outcomes
        except BrokenProcessPool:
            row, clip = left.pop(0)
            file = next(iter(clip.files.values()))
            error = MediaError(file, "crash", "crashes the decoder", "convert it again, or remove it")
            yield [Outcome(row, clip_stamp(clip), lost=Lost.of(clip, error))]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pool(
    readers: Mapping[str, ModalityReader], files: Mapping[str, Path], workers: int
) -> ProcessPoolExecutor:
    # A forked process would inherit locks held by other threads of this process.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(dict(readers), dict(files)))


_writer: RowWriter | None = None


def _begin(readers: dict[str, ModalityReader], files: dict[str, Path]) -> None:
    global _writer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it and lets running tasks finish
    import torch

    torch.set_num_threads(1)
    _writer = RowWriter(readers, files)


def _write(items: Sequence[Item]) -> list[Outcome | Failure]:
    assert _writer is not None
    return _writer.write(items)


def _checked(found: Sequence[Outcome | Failure]) -> list[Outcome]:
    outcomes = []
    for one in found:
        if isinstance(one, Failure):
            raise one.error()
        outcomes.append(one)
    return outcomes


def _stored(reader: ModalityReader, clip: Clip) -> NDArray[Any]:
    """Return values in the stored type, after a check of their shape."""
    values, layout = reader.read(clip), reader.layout
    assert values.shape == layout.shape, f"a reader gave {values.shape}, its layout is {layout.shape}"
    return np.ascontiguousarray(values, dtype=layout.stored_type)


def _check_finite(clip: Clip, modality: str, values: NDArray[Any]) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values.astype(np.float32)).all():
        file = next(iter(clip.files.values()))
        found = f"gives values of {modality!r} that are not finite"
        raise MediaError(file, "unreadable", found, "convert it again, or remove it")
