"""The trackers of a run: every event of its record, once, also where the run is interrupted and resumed.

A resumed run repeats the events after its checkpoint. `trackers.json` says how many events of each file a
tracker has, so that it gets none twice, and those from before where it is new.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from equipoise.files.untrusted import ABSENT, parse_json
from equipoise.tracking.outlets import Outlet, Pictures, closed, lost, undisturbed
from equipoise.tracking.series import series
from equipoise.tracking.services import Place, open_service, remove_local
from equipoise.training.record.events import read_events
from equipoise.training.record.names import DIAGNOSES, METRICS, RESULT, TRACKERS
from equipoise.types import warn

COUNTED: Final = (METRICS, DIAGNOSES)
FAILED: Final = "failed"
REWRITTEN: Final = "csv"
"""The logger that begins its file anew, and gets all events again."""


class RunTrackers:
    """What observes the record of a run, and tells its trackers.

    They are opened with the first event: by then a resumed run has dropped the events that it will repeat.

    Args:
        names: of the loggers.
        place: where the run is.
    """

    def __init__(self, names: Sequence[str], place: Place) -> None:
        self._names, self._place = list(names), place
        self._outlets: dict[str, Outlet] | None = None
        self._state: dict[str, Any] = {}
        self._counts = dict.fromkeys(COUNTED, 0)
        self._epoch, self._relearnt = 0, -1

    def __enter__(self) -> RunTrackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        finished = error is None and (self._place.folder / RESULT).is_file()
        for outlet in (self._outlets or {}).values():
            closed(outlet, finished=finished)
        self._outlets = {}

    def seen(self, name: str, event: Mapping[str, Any], pictures: Pictures | None = None) -> None:
        """Tell the trackers of an event that was added to a file of the record."""
        if self._outlets == {} or name not in COUNTED:
            return
        events: Sequence[tuple[str, Mapping[str, Any]]] = [(name, event)]
        if self._outlets is None:
            events = self._recorded()
            self._open(next((one for _, one in events if one.get("event") == "start"), {}))
        for place, (file, one) in enumerate(events):
            self._counts[file] += 1
            self._tell(file, one, pictures if place == len(events) - 1 else None)

    def _recorded(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the events of both files with the name of theirs, in the order in which they happened."""
        found = [(name, one) for name in COUNTED for one in read_events(self._place.folder / name)]
        order = {"start": -1.0, "test": math.inf}
        return sorted(found, key=lambda entry: entry[1].get("epoch", order.get(entry[1].get("event", ""), 0)))

    def _open(self, start: Mapping[str, Any]) -> None:
        """Open the trackers of the run that began so; what belongs to another one is begun anew."""
        self._outlets, self._state = {}, _read(self._place.folder / TRACKERS)
        if self._state.get("start") != dict(start):
            if (self._place.folder / TRACKERS).is_file():
                remove_local(self._place.folder)
            self._state = {"start": dict(start)}
        for name in self._names:
            held = self._state.setdefault(name, {})
            held.pop(FAILED, None)
            if name == REWRITTEN:
                held.clear()
            try:
                with undisturbed():
                    self._outlets[name] = Outlet(name, open_service(name, self._place, held))
            except Exception as error:
                self._lose(name, error)

    def _tell(self, file: str, event: Mapping[str, Any], pictures: Pictures | None) -> None:
        assert self._outlets is not None
        self._epoch = int(event.get("epoch", self._epoch))
        values = series(event, again=file == DIAGNOSES and self._relearnt == self._epoch)
        if event.get("event") == "relearning":
            self._relearnt = self._epoch
        drawn: Mapping[str, Any] | None = None
        for name, outlet in list(self._outlets.items()):
            held = self._state[name]
            if self._counts[file] <= held.get(file, 0):
                continue
            try:
                with undisturbed():
                    outlet.log(values, self._epoch)
                    if pictures is not None and outlet.shows:
                        drawn = pictures() if drawn is None else drawn
                        outlet.show(drawn, self._epoch)
                held[file] = self._counts[file]
                self._write()
            except Exception as error:
                self._lose(name, error)

    def _lose(self, name: str, error: Exception) -> None:
        """Leave out a tracker from now on; its run is trained to the end."""
        assert self._outlets is not None
        if (outlet := self._outlets.pop(name, None)) is not None:
            closed(outlet, finished=False)
        self._state[name][FAILED] = said = lost(name, error)
        try:
            self._write()
        except OSError:
            pass  # the record will say that the disk is full
        finally:
            warn(said)

    def _write(self) -> None:
        path = self._place.folder / TRACKERS
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        partial.write_text(json.dumps(self._state), encoding="utf-8")
        partial.replace(path)


def failures(folder: Path) -> list[str]:
    """Return what is to be said of the trackers of a run that have failed; a worker is silent about them."""
    state = _read(folder / TRACKERS)
    return [held[FAILED] for held in state.values() if isinstance(held, dict) and FAILED in held]


def _read(path: Path) -> dict[str, Any]:
    """Read the state; what cannot be read is as if it were not there."""
    try:
        found: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        return found
    except (*ABSENT, OSError, ValueError, RecursionError):
        return {}
