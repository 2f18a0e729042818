"""Read clips in worker processes, which write directly into the arrays on disk."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.children import Workers, end_with_parent
from equipoise.data.format.content import row_hashes
from equipoise.data.prepare.clips import Clip, Lost, ModalityReader
from equipoise.data.prepare.journal import Outcome, clip_stamp
from equipoise.data.prepare.media.files import MediaError
from equipoise.files.limits import machine_limit
from equipoise.files.untrusted import first_line
from equipoise.types import DataError, EquipoiseError, MachineLimitError, UsageError

Item = tuple[int, Clip]
CHUNK = 8
"""Samples in one task of a worker."""
WAITING = 2
"""Tasks submitted for each worker; memory does not grow with the number of clips."""


class RowWriter:
    """Reads clips and writes their rows; each process has one.

    Args:
        readers: modality to reader.
        files: modality to array file.
    """

    def __init__(self, readers: Mapping[str, ModalityReader], files: Mapping[str, Path]) -> None:
        self._readers = dict(readers)
        self._arrays = {name: np.load(path, mmap_mode="r+") for name, path in files.items()}

    def write(self, items: Sequence[Item]) -> list[Outcome | EquipoiseError]:
        """Read some clips; an error in one does not affect the others."""
        return [self._one(row, clip) for row, clip in items]

    def _one(self, row: int, clip: Clip) -> Outcome | EquipoiseError:
        stamp = clip_stamp(clip)
        try:
            values = {m: _stored(reader, clip) for m, reader in self._readers.items()}
            for modality, array in values.items():
                _check_finite(clip, modality, array)
        except MediaError as error:
            return Outcome(row, stamp, lost=Lost.of(clip, error))
        except MachineLimitError as error:
            return MachineLimitError(f"reading {clip.id!r}: {error}")
        except EquipoiseError as error:
            # Not every exception can be pickled: only its text is sent to the parent.
            return (UsageError if error.exit_code == UsageError.exit_code else DataError)(str(error))
        except Exception as error:
            if (limit := machine_limit(error)) is not None:
                return MachineLimitError(f"reading {clip.id!r}: {limit}")
            text = f"reading {clip.id!r} failed unexpectedly ({type(error).__name__}: {error})"
            return DataError(f"{text}; please report this with the file.")
        for modality, array in values.items():
            self._arrays[modality][row] = array
        return Outcome(row, stamp, {m: row_hashes(array[None])[0] for m, array in values.items()})


@dataclass(frozen=True)
class Crew:
    """The processes that read.

    Attributes:
        workers: number of processes; a single one is this process.
        isolated: use a separate process for a single worker, too, so that this one survives a decoder crash.
    """

    workers: int = 1
    isolated: bool = False

    def read(
        self, items: Sequence[Item], readers: Mapping[str, ModalityReader], files: Mapping[str, Path]
    ) -> Iterator[list[Outcome]]:
        """Read clips into the arrays, and yield the outcomes in the order in which they are finished.

        `items` are rows and clips; for the other arguments see `RowWriter`.

        Raises:
            EquipoiseError: a package is missing, or a reader failed unexpectedly.
        """
        chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
        if self.workers == 1 and not self.isolated:
            writer = RowWriter(readers, files)
            for chunk in chunks:
                yield _checked(writer.write(chunk))
            return
        arguments = dict(readers), dict(files)
        while chunks:
            workers = min(self.workers, len(chunks))
            suspects, _ = yield from _in_pool(chunks, arguments, workers, WAITING * workers)
            # One at a time, to find the clip that crashes the decoder; only that one is lost.
            alone: list[Sequence[Item]] = [[item] for item in suspects]
            while alone:
                crashed, pool = yield from _in_pool(alone, arguments, 1, 1)
                for row, clip in crashed:
                    yield [_lost_by_crash(row, clip, pool)]


def _in_pool(
    chunks: list[Sequence[Item]], arguments: tuple[Any, ...], workers: int, waiting: int
) -> Generator[list[Outcome], None, tuple[list[Item], Workers]]:
    """Read `chunks` and remove them from the list; return the unfinished items if a process died."""
    pending: dict[Future[list[Outcome | EquipoiseError]], Sequence[Item]] = {}
    pool = Workers(workers, _begin, *arguments)
    try:
        while chunks or pending:
            while chunks and len(pending) < waiting:
                pending[pool.submit(_write, chunks[0])] = chunks[0]
                del chunks[0]
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                outcomes = _checked(future.result())
                del pending[future]
                yield outcomes
    except BrokenProcessPool:
        # Some of these items may be finished; reading them again gives equal rows.
        return [item for chunk in pending.values() for item in chunk], pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [], pool


def _lost_by_crash(row: int, clip: Clip, pool: Workers) -> Outcome:
    """Return the outcome of a clip that was read alone, in a pool that was lost.

    Raises:
        MachineLimitError: it is not the decoder that has crashed.
    """
    name, how = pool.how_lost()
    if name in ("", "SIGKILL", "SIGTERM"):
        raise MachineLimitError(
            f"the process that was reading {clip.id!r} {how}; the same command continues, and without the "
            "files of this sample if it is they that need so much."
        )
    file = next(iter(clip.files.values()))
    error = MediaError(file, "crash", "crashes the decoder", "convert it again, or remove it")
    return Outcome(row, clip_stamp(clip), lost=Lost.of(clip, error))


_writer: RowWriter | None = None
_failed: EquipoiseError | None = None
"""Why there is no writer."""


def _begin(readers: dict[str, ModalityReader], files: dict[str, Path]) -> None:
    global _writer, _failed
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it and lets running tasks finish
    end_with_parent()
    try:
        import torch

        torch.set_num_threads(1)
        _writer = RowWriter(readers, files)
    except Exception as error:  # raised here, it would look like a crash of the decoder
        _failed = machine_limit(error) or DataError(
            f"a process that reads samples cannot start ({type(error).__name__}: {first_line(error)}); run "
            "the same command again."
        )


def _write(items: Sequence[Item]) -> list[Outcome | EquipoiseError]:
    if _writer is None:
        assert _failed is not None
        return [_failed]
    return _writer.write(items)


def _checked(found: Sequence[Outcome | EquipoiseError]) -> list[Outcome]:
    outcomes = []
    for one in found:
        if isinstance(one, EquipoiseError):
            raise one
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
