"""Read clips in worker processes, each straight into the arrays on disk."""

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
from equipoise.data.prepare.clips import Clip, Lost, ModalityReader, stored
from equipoise.data.prepare.journal import Outcome, clip_stamp, opened_arrays
from equipoise.data.prepare.media.errors import MediaError
from equipoise.types import DataError, EquipoiseError, UsageError

Item = tuple[int, Clip]
CHUNK = 8
"""Samples that a worker takes at a time."""
WAITING = 2
"""Chunks under way for each worker: memory does not grow with the number of clips."""


@dataclass(frozen=True)
class Crew:
    """Who reads.

    Attributes:
        workers: processes; with one, this process reads.
        isolated: one worker is a process of its own, too, so that this one outlives a crash of a decoder.
    """

    workers: int = 1
    isolated: bool = False


@dataclass(frozen=True)
class Failure:
    """An error that is not one file's alone; exceptions themselves do not all survive the way to a parent."""

    message: str
    exit_code: int

    def error(self) -> EquipoiseError:
        """Return it as an error of this process."""
        return (UsageError if self.exit_code == UsageError.exit_code else DataError)(self.message)


class RowWriter:
    """Reads clips and writes their rows; one in each process.

    Args:
        readers: modality to reader.
        files: modality to array file.
    """

    def __init__(self, readers: Mapping[str, ModalityReader], files: Mapping[str, Path]) -> None:
        self._readers, self._arrays = dict(readers), opened_arrays(files)

    def write(self, items: Sequence[Item]) -> list[Outcome | Failure]:
        """Read some clips; what is wrong with one of them does not touch the others."""
        return [self._one(row, clip) for row, clip in items]

    def _one(self, row: int, clip: Clip) -> Outcome | Failure:
        stamp = clip_stamp(clip)
        try:
            values = {m: stored(reader.read(clip), reader.layout) for m, reader in self._readers.items()}
            for modality, array in values.items():
                _check_finite(clip, modality, array)
        except MediaError as error:
            return Outcome(row, stamp, lost=Lost.of(clip, error))
        except EquipoiseError as error:
            return Failure(str(error), error.exit_code)
        except Exception as error:
            text = f"reading {clip.id!r} failed unexpectedly ({type(error).__name__}: {error})"
            return Failure(f"{text}; report this with the file.", 1)
        for modality, array in values.items():
            self._arrays[modality][row] = array
        return Outcome(row, stamp, {m: row_hashes(array[None])[0] for m, array in values.items()})


def read_clips(
    items: Sequence[Item],
    readers: Mapping[str, ModalityReader],
    files: Mapping[str, Path],
    crew: Crew,
) -> Iterator[list[Outcome]]:
    """Read clips into the arrays, and yield what became of them, in the order in which they are done.

    Args:
        items: rows and clips.
        readers: modality to reader.
        files: modality to array file.
        crew: who reads.

    Raises:
        EquipoiseError: a package is missing, or a reader failed in a way that no file explains.
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
    """Work through `chunks`, which are taken off the list; return what was under way when a process died."""
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
        # What had been done of these chunks is done again: equal files give equal rows.
        return [item for chunk in pending.values() for item in chunk]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return []


def _one_by_one(
    items: Sequence[Item], readers: Mapping[str, ModalityReader], files: Mapping[str, Path]
) -> Iterator[list[Outcome]]:
    """Read clips of which one has taken its process down, so that it is found and costs no other."""
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
            error = MediaError(file, "crash", "makes the decoder crash", "convert it anew, or leave it out")
            yield [Outcome(row, clip_stamp(clip), lost=Lost.of(clip, error))]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pool(
    readers: Mapping[str, ModalityReader], files: Mapping[str, Path], workers: int
) -> ProcessPoolExecutor:
    # A forked process would inherit the locks of whatever threads are running here.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(dict(readers), dict(files)))


_writer: RowWriter | None = None


def _begin(readers: dict[str, ModalityReader], files: dict[str, Path]) -> None:
    global _writer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and lets the chunks under way end
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


def _check_finite(clip: Clip, modality: str, values: NDArray[Any]) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values.astype(np.float32)).all():
        file = next(iter(clip.files.values()))
        found = f"gives values of {modality!r} that are not finite"
        raise MediaError(file, "unreadable", found, "convert it anew, or leave it out")
