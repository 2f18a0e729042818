"""What a run folder says: its settings, events and result, none of them changed since."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Final

from equipoise.files.held import Held
from equipoise.files.untrusted import ABSENT, Refuse, read_json, read_yaml
from equipoise.training.record.events import REMEDY, read_events
from equipoise.training.record.names import (
    BEFORE_LAST,
    CHECKPOINT,
    CONFIG,
    EVENTS,
    MACHINE_ONLY,
    MOVABLE,
    RESULT,
    SEALED,
    WEIGHTS,
)
from equipoise.training.record.seals import EMPTY, Seal, changed, digest_of, holds, opened
from equipoise.types import PathError, RunFolderError, warn

IN_RESULT: Final = {"test": dict, "validation": dict, "seed": int}
MAY_BE_IN_RESULT: Final = {
    **dict.fromkeys(("dataset", "model", "method", "task"), str),
    **dict.fromkeys(("epochs", "best_epoch"), int),
    **dict.fromkeys(("classes", "modalities"), list),
    **dict.fromkeys(("split_sizes", "environment", "method_options", "probes", "parts", "model_spec"), dict),
}
"""Kinds of the entries of a result; those of the second are missing in results of some versions."""


@dataclass(frozen=True)
class RecordReader:
    """The files of one run, to be read.

    Attributes:
        folder: their folder.
    """

    folder: Path

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
        return self.path(CHECKPOINT).is_file() or self.path(BEFORE_LAST).is_file()

    @property
    def holds_comparison(self) -> bool:
        """Whether the folder is that of a comparison, whose runs have folders below it."""
        return (self.folder / "runs").is_dir()

    def path(self, name: str) -> Path:
        """Return the path of one of the record's files."""
        return self.folder / name

    def options(self) -> dict[str, Any]:
        """Return the settings of the run, as options.

        Raises:
            PathError: there is no run in the folder.
            RunFolderError: its settings cannot be read.
        """

        def refuse(found: str) -> RunFolderError:
            return RunFolderError(f"cannot read {self.path(CONFIG)}: {found}; write it anew, or train again.")

        try:
            values: dict[str, Any] = read_yaml(self.path(CONFIG), refuse)
        except ABSENT:
            raise PathError(
                f"{self.folder} holds no run: there is no {CONFIG}; expected a folder written by "
                "'equipoise train' or 'equipoise compare'."
            ) from None
        if unnamed := [key for key in values if not isinstance(key, str)]:
            raise refuse(f"it has the key {unnamed[0]!r}, expected names of options")
        return values

    def events(self, name: str) -> Iterator[Held]:
        """Read a file of JSON lines; an incomplete last line, left by a killed process, is skipped.

        Raises:
            RunFolderError: a line is damaged, or the run is finished and the file is not as it was then.
        """
        return read_events(self.path(name), self._seal(name))

    def checked(self, name: str) -> Path:
        """Return the path of a file of a finished run, after a look at its seal.

        Raises:
            RunFolderError: it is not the file that the run has written.
        """
        seal = self._seal(name)
        if name in EVENTS:
            deque(self.events(name), maxlen=0)
        elif seal is not None and not holds(self.path(name), seal):
            raise changed(self.path(name), REMEDY)
        return self.path(name)

    def check_settings(self) -> None:
        """Warn where the settings of a finished run are not those that it was made with."""
        held = self._opened()[1] if self.has_result else None
        if held is not None and held.get(CONFIG) != self.settings_digest():
            warn(
                f"{self.path(CONFIG)} was changed after the run was finished: the settings in it may not be "
                "those of the run. Restore it from a copy, or overwrite the run to train it again."
            )

    def settings_digest(self) -> str:
        """Return the digest of the settings, but for those that may change."""
        return digest_of({key: value for key, value in self.options().items() if key not in MOVABLE})

    def _seal(self, name: str) -> Seal | None:
        """Return the seal of a file; None in a run that is not finished, or of a version without seals."""
        if name not in SEALED or not self.has_result:
            return None
        held = self._opened()[1]
        return None if held is None else held.get(name, EMPTY)

    def result(self) -> Held:
        """Return the result.

        Raises:
            RunFolderError: the run is not finished, or the file is damaged or was changed. Also when an entry
                is asked for later, and missing.
        """
        return Held(self._opened()[0], str(self.path(RESULT)), REMEDY)

    def _opened(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return the result, and the seals of the files that it goes with; see `result`."""

        def refuse(found: str) -> RunFolderError:
            return RunFolderError(
                f"cannot read {self.path(RESULT)}: {found}; overwrite the run to train it again."
            )

        try:
            result: dict[str, Any] = read_json(self.path(RESULT), refuse)
        except ABSENT:
            self.options()  # raises where there is no run at all
            if self.holds_comparison:
                raise PathError(
                    f"{self.folder} holds a comparison; expected one of its runs, a folder in "
                    f"{self.folder / 'runs'}."
                ) from None
            raise RunFolderError(
                f"the run in {self.folder} is not finished; continue it with 'equipoise train --resume'."
            ) from None
        result, seals = opened(result, self.path(RESULT), REMEDY)
        check_result(result, refuse)
        return result, seals

    def check_data(self, identity: Mapping[str, str]) -> None:
        """Check that a finished run was made with these data: fingerprints by their keys in the result.

        A key that the result of an earlier version does not have is not checked.

        Raises:
            PathError: it was made with others.
        """
        result = self.result()
        changed = [key for key, value in identity.items() if result.get(key, value) != value]
        if changed:
            raise PathError(
                f"{self.folder} holds a finished run on other data ({', '.join(changed)} differ): data, "
                "splits or files of weights have changed since. Choose another folder, or overwrite it."
            )

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


def check_result(result: Mapping[str, Any], refuse: Refuse, needed: Container[str] = IN_RESULT) -> None:
    """Check the kinds of the entries of a result; those that are `needed` must be there."""
    for name, kind in (IN_RESULT | MAY_BE_IN_RESULT).items():
        if (name in needed or name in result) and not isinstance(result.get(name), kind):
            raise refuse(f"it has {repr(result.get(name))[:80]} for {name!r}")
    for split in ("test", "validation"):
        for name, value in result[split].items():
            if not isinstance(value, int | float | NoneType):
                raise refuse(f"it has {repr(value)[:80]} for {name!r} in {split!r}, expected a number")


def _shown(options: Mapping[str, Any], key: str) -> str:
    return repr(options[key]) if key in options else "not set"
