"""The run record: a folder with the settings, events and results of one run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from equipoise.files.limits import check_machine
from equipoise.files.whole import PARTIAL, kept_in, sync_folder, write_atomically
from equipoise.tracking.services import remove_local
from equipoise.training.record.events import append_event, check_confirmed, confirmed, cut_back
from equipoise.training.record.locks import LOCK, locked
from equipoise.training.record.names import (
    BEFORE_LAST,
    CHECKPOINT,
    CONFIG,
    DIAGNOSES,
    ERROR,
    EVENTS,
    FILES,
    FLOORS,
    INPUTS,
    MACHINE_ONLY,
    METRICS,
    PREDICTIONS,
    RESULT,
    SEALED,
    SNAPSHOT_INDEX,
    SNAPSHOTS,
    TRACE,
    TRACKERS,
    WEIGHTS,
)
from equipoise.training.record.reading import RecordReader
from equipoise.training.record.seals import Seal, seal_of, sealed
from equipoise.types import PathError

if TYPE_CHECKING:  # the command line shows its help without loading torch
    from equipoise.tracking.outlets import Pictures

__all__ = [
    "BEFORE_LAST",
    "CHECKPOINT",
    "CONFIG",
    "DIAGNOSES",
    "ERROR",
    "EVENTS",
    "FLOORS",
    "INPUTS",
    "MACHINE_ONLY",
    "METRICS",
    "PREDICTIONS",
    "RESULT",
    "SNAPSHOTS",
    "SNAPSHOT_INDEX",
    "TRACE",
    "WEIGHTS",
    "RunRecord",
]


class Observer(Protocol):
    """Is told of the events of a run."""

    def seen(self, name: str, event: Mapping[str, Any], pictures: Pictures | None = None) -> None:
        """An event was added to a file; `pictures` draws what goes with it."""


@dataclass(frozen=True)
class RunRecord(RecordReader):
    """The files of one run.

    Attributes:
        folder: their folder.
        writes: whether anything is written; of the processes of a run the first one writes.
        observer: what is told of every event that is written.
    """

    writes: bool = True
    observer: Observer | None = field(default=None, compare=False)

    @contextmanager
    def opened(
        self,
        options: Mapping[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
        wait: bool = False,
    ) -> Iterator[None]:
        """Hold the lock of the folder in a block, and prepare it for a run; see `open` and `locked`.

        What is wrong is said before the folder is created or touched.
        """
        if not self.writes:
            yield
            return
        self.check(options, resume=resume, overwrite=overwrite)
        with locked(self.folder, wait=wait):
            self.open(options, resume=resume, overwrite=overwrite)
            with kept_in(self.folder):
                yield

    def check(self, options: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False) -> None:
        """Check that the folder can be prepared for a run of these options (see `to_options`).

        Raises:
            PathError: it holds other things, or a run that is neither to be replaced (`overwrite`), nor to be
                resumed and of the same options.
        """
        if self._in_use():
            if self.holds_comparison or not self.path(CONFIG).is_file():
                held = "a comparison" if self.holds_comparison else "no run"
                raise PathError(
                    f"{self.folder} is in the way: it exists and holds {held}; choose another folder."
                )
            if overwrite:
                return
            if not resume:
                raise PathError(
                    f"{self.folder} holds a run already; resume it, overwrite it, or choose another folder "
                    "(--resume, --overwrite, --out)."
                )
            self._check_links()
            self.check_same(options)

    def _check_links(self) -> None:
        """Raise PathError if a file of the record is a link that leaves its folder: it would be written."""
        for name in (*FILES, *EVENTS, SNAPSHOTS):
            path = self.path(name)
            if path.is_symlink() and self.folder.resolve() not in path.resolve().parents:
                raise PathError(
                    f"{path} is a link to {path.resolve()}, outside the folder of the run; put the file "
                    "itself there, or overwrite the run."
                )

    def open(self, options: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False) -> None:
        """Prepare the folder, whose lock is held, for a run of these options.

        With `resume` it may hold a run of the same options; with `overwrite` a run that it holds is replaced.

        Raises:
            PathError: it cannot be written; or see `check`, and nothing is changed.
        """
        self.check(options, resume=resume, overwrite=overwrite)
        if self._in_use():
            if not overwrite:
                self._remove_partial()
                return
            self.clear()
        try:
            write_atomically(self.path(CONFIG), yaml.safe_dump(dict(options), sort_keys=False))
        except OSError as error:
            check_machine(error)
            raise PathError(
                f"cannot write the folder {self.folder} ({error.strerror or error}); choose another one."
            ) from None

    def _in_use(self) -> bool:
        """Return whether the folder holds more than what a run leaves that ended before it began."""
        if not self.folder.is_dir():
            return self.folder.exists()
        return any(not (p.name in (ERROR, LOCK) or p.match(PARTIAL)) for p in self.folder.iterdir())

    def clear(self) -> None:
        """Remove the files of the record, and nothing else."""
        shutil.rmtree(self.path("parts"), ignore_errors=True)
        self.tidy()
        if self.path(TRACKERS).is_file():
            remove_local(self.folder)
            self.path(TRACKERS).unlink()
        for name in FILES:
            self.path(name).unlink(missing_ok=True)

    def _remove_partial(self) -> None:
        """Remove what a killed process has left of files of the record, which may be large."""
        for name in FILES:
            for path in self.folder.glob(f".{name}.*.part"):
                path.unlink(missing_ok=True)

    def begin(self, identity: Mapping[str, str]) -> None:
        """Write the first event of a run that starts at its first epoch."""
        if not self.writes:
            return
        self.path(RESULT).unlink(missing_ok=True)  # it was complete, and its weights were lost
        shutil.rmtree(self.path(SNAPSHOTS), ignore_errors=True)
        for name in EVENTS:
            self.path(name).unlink(missing_ok=True)
        self.append(METRICS, {"event": "start", **identity})

    def append(self, name: str, event: Mapping[str, Any], pictures: Pictures | None = None) -> None:
        """Append an event to a file of JSON lines, whole or not at all, and tell the observer.

        Raises:
            NoSpaceError: the disk is full.
        """
        if self.writes:
            with kept_in(self.folder):
                append_event(self.path(name), event)
            if self.observer is not None:
                self.observer.seen(name, event, pictures)

    def confirmed(self) -> dict[str, Seal]:
        """Return the seals of the event files, once these are on the disk; for a checkpoint."""
        return confirmed(self._event_files())

    def check_confirmed(self, seals: Mapping[str, Seal]) -> None:
        """Check that the event files begin with what a checkpoint knows; see `check_confirmed`."""
        check_confirmed(self._event_files(), seals)

    def cut_back(self, seals: Mapping[str, Seal]) -> None:
        """Remove the events after a checkpoint, which will be repeated."""
        if self.writes:
            cut_back(self._event_files(), seals)

    def _event_files(self) -> dict[str, Path]:
        return {name: self.path(name) for name in EVENTS}

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result, which marks the run as finished, with the seals of the files that it goes with.

        They are on the disk before the result is, and that before the checkpoints are removed.
        """
        if not self.writes:
            return
        seals = {name: seal for name, seal in self.confirmed().items() if name in SEALED}
        seals |= {name: seal_of(self.path(name)) for name in SEALED if name not in seals}
        held = sealed(result, {**seals, CONFIG: self.settings_digest()})
        write_atomically(self.path(RESULT), json.dumps(held, indent=2) + "\n")
        sync_folder(self.folder)
        self.tidy()

    def tidy(self) -> None:
        """Remove the files that a finished run no longer needs, and those of a process that was killed."""
        if not self.writes:
            return
        kept = (CHECKPOINT, BEFORE_LAST, ERROR)
        for path in (*map(self.path, kept), *self.folder.glob(PARTIAL)):
            path.unlink(missing_ok=True)
        for folder in (SNAPSHOTS, FLOORS):
            shutil.rmtree(self.path(folder), ignore_errors=True)
