"""The run record: a folder with the settings, events and results of one run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from equipoise.training.record.files import first_line
from equipoise.training.record.locks import LOCK, locked
from equipoise.types import PathError, RunFolderError
from equipoise.whole_files import PARTIAL, write_atomically

CONFIG, METRICS, DIAGNOSES = "config.yaml", "metrics.jsonl", "diagnosis.jsonl"
RESULT, WEIGHTS, CHECKPOINT = "result.json", "model.safetensors", "checkpoint.pt"
PREDICTIONS, TRACE = "predictions.npz", "trace.jsonl"
SNAPSHOTS: Final = "snapshots"
"""Folder of the weights that a run with a trace keeps until it is finished."""
SNAPSHOT_INDEX: Final = f"{SNAPSHOTS}/index.jsonl"
FLOORS: Final = "floors"
"""Folder in which runs on the same data share the floor of their data."""
EVENTS: Final = (METRICS, DIAGNOSES, SNAPSHOT_INDEX)
"""Files to which events are appended during a run."""
ERROR: Final = "error.txt"
"""The traceback of an unexpected error; removed once the run is finished."""
PAGES: Final = ("report.html", "diagnosis.html")
FILES: Final = (CONFIG, *EVENTS[:2], RESULT, WEIGHTS, CHECKPOINT, PREDICTIONS, TRACE, ERROR, *PAGES)
MACHINE_ONLY: Final = frozenset({"device", "threads", "num_workers", "checkpoint_every"})
"""Settings that may differ when a run is resumed; a comparison checks the device itself."""


@dataclass(frozen=True)
class RunRecord:
    """The files of one run.

    Attributes:
        folder: their folder.
        writes: whether anything is written; of the processes of a run the first one writes.
    """

    folder: Path
    writes: bool = True

    @property
    def complete(self) -> bool:
        """Whether the run is finished, and its weights are still there."""
        return self.has_result and self.path(WEIGHTS).is_file()

    @property
    def has_result(self) -> bool:
        """Whether there are figures to report, with or without the weights."""
        return self.path(RESULT).is_file()

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self.path(CHECKPOINT).is_file()

    @property
    def holds_comparison(self) -> bool:
        """Whether the folder is that of a comparison, whose runs have folders below it."""
        return (self.folder / "runs").is_dir()

    def path(self, name: str) -> Path:
        """Return the path of one of the record's files."""
        return self.folder / name

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
            self.check_same(options)

    def open(self, options: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False) -> None:
        """Prepare the folder, whose lock is held, for a run of these options.

        With `resume` it may hold a run of the same options; with `overwrite` a run that it holds is replaced.

        Raises:
            PathError: it cannot be written; or see `check`, and nothing is changed.
        """
        self.check(options, resume=resume, overwrite=overwrite)
        if self._in_use():
            if not overwrite:
                return
            self.clear()
        try:
            write_atomically(self.path(CONFIG), yaml.safe_dump(dict(options), sort_keys=False))
        except OSError as error:
            raise PathError(
                f"cannot write the folder {self.folder} ({error.strerror or error}); choose another one."
            ) from None

    def _in_use(self) -> bool:
        """Return whether the folder holds more than what a run leaves that ended before it began."""
        if not self.folder.is_dir():
            return self.folder.exists()
        return any(not (p.name in (ERROR, LOCK) or p.match(PARTIAL)) for p in self.folder.iterdir())

    def check_data(self, identity: Mapping[str, str]) -> None:
        """Check that a finished run was made with these data: fingerprints by their keys in the result.

        Raises:
            PathError: it was made with others.
        """
        result = self.result()
        changed = [key for key, value in identity.items() if result.get(key) != value]
        if changed:
            raise PathError(
                f"{self.folder} holds a finished run on other data ({', '.join(changed)} differ): data or "
                "splits have changed since. Choose another folder, or overwrite it."
            )

    def clear(self) -> None:
        """Remove the files of the record, and nothing else."""
        self.tidy()
        for name in FILES:
            self.path(name).unlink(missing_ok=True)
        shutil.rmtree(self.path("parts"), ignore_errors=True)

    def options(self) -> dict[str, Any]:
        """Return the settings of the run, as options.

        Raises:
            PathError: there is no run in the folder.
            RunFolderError: its settings cannot be read.
        """
        try:
            values = yaml.safe_load(self.path(CONFIG).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise PathError(
                f"{self.folder} holds no run: there is no {CONFIG}; expected a folder written by "
                "'equipoise train' or 'equipoise compare'."
            ) from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RunFolderError(
                f"cannot read {self.path(CONFIG)}: {first_line(error)}; write it anew, or train again."
            ) from None
        if not isinstance(values, dict):
            raise RunFolderError(f"{self.path(CONFIG)} is not a mapping of options; it is damaged.")
        return values

    def append(self, name: str, event: Mapping[str, Any]) -> None:
        """Append an event to a file of JSON lines."""
        if not self.writes:
            return
        with self.path(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event, allow_nan=True) + "\n")

    def events(self, name: str) -> Iterator[dict[str, Any]]:
        """Read a file of JSON lines; an incomplete last line, left by a killed process, is skipped."""
        path = self.path(name)
        if not path.is_file():
            return
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                if number < len(lines):
                    raise RunFolderError(f"{path} is damaged in line {number}; run again.") from None

    def lengths(self) -> dict[str, int]:
        """Return the sizes of the event files, in bytes."""
        return {name: self._size(name) for name in EVENTS}

    def truncate(self, lengths: Mapping[str, int]) -> None:
        """Truncate the event files to the sizes at a checkpoint; the events after it will be repeated."""
        if not self.writes:
            return
        for name, length in lengths.items():
            if self._size(name) > length:
                os.truncate(self.path(name), length)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result, which marks the run as finished."""
        if not self.writes:
            return
        write_atomically(self.path(RESULT), json.dumps(result, indent=2) + "\n")
        self.tidy()

    def tidy(self) -> None:
        """Remove the files that a finished run no longer needs, and those of a process that was killed."""
        if not self.writes:
            return
        for path in (self.path(CHECKPOINT), self.path(ERROR), *self.folder.glob(PARTIAL)):
            path.unlink(missing_ok=True)
        for folder in (SNAPSHOTS, FLOORS):
            shutil.rmtree(self.path(folder), ignore_errors=True)

    def result(self) -> dict[str, Any]:
        """Return the result.

        Raises:
            RunFolderError: the run is not finished, or the file is damaged.
        """
        try:
            result: dict[str, Any] = json.loads(self.path(RESULT).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            self.options()  # raises where there is no run at all
            if self.holds_comparison:
                raise PathError(
                    f"{self.folder} holds a comparison; expected one of its runs, a folder in "
                    f"{self.folder / 'runs'}."
                ) from None
            raise RunFolderError(
                f"the run in {self.folder} is not finished; continue it with 'equipoise train --resume'."
            ) from None
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"cannot read {self.path(RESULT)}: {first_line(error)}; overwrite the run to train it again."
            ) from None
        if not isinstance(result, dict) or not {"test", "validation", "seed"} <= result.keys():
            raise RunFolderError(
                f"{self.path(RESULT)} is damaged; delete the folder {self.folder} and run again."
            )
        return result

    def _size(self, name: str) -> int:
        path = self.path(name)
        return path.stat().st_size if path.is_file() else 0

    def check_same(self, options: Mapping[str, Any], free: frozenset[str] = MACHINE_ONLY) -> None:
        """Check that the run, or comparison, has these options; those that are `free` may differ.

        Raises:
            PathError: it has others.
        """
        held = self.options()
        differing = [
            f"{key} {_shown(held, key)} (requested: {_shown(options, key)})"
            for key in sorted({*held, *options} - free)
            if held.get(key) != options.get(key)
        ]
        if differing:
            kind = "comparison" if self.holds_comparison else "run"
            raise PathError(
                f"{self.folder} holds a {kind} of another configuration: {'; '.join(differing[:4])}"
                f"{' and more' if len(differing) > 4 else ''}. Choose another folder, or overwrite it."
            )


def _shown(options: Mapping[str, Any], key: str) -> str:
    return repr(options[key]) if key in options else "not set"
