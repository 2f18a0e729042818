"""The runs of a grid: what each is, in which order they may start, and its computation."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from equipoise.methods import METHODS, base_names
from equipoise.training.fit import run
from equipoise.training.record.copies import copy_run
from equipoise.training.record.record import FLOORS, RunRecord
from equipoise.training.settings import Settings
from equipoise.types import EquipoiseError, EquipoiseWarning


@dataclass(frozen=True)
class Job:
    """One run of a grid.

    Attributes:
        settings: the run.
        folder: of its record.
        parts_folder: folder of the runs that it builds on.
        overwrite: whether a record in the folder is replaced; otherwise it is resumed.
        after: folders of the jobs whose runs this one builds on.
        listed: whether the run was requested; otherwise it is only a part of others.
        cell: name of the comparison that it belongs to.
        same_as: folder of an equal run of another comparison, which is copied instead of computed again.
    """

    settings: Settings
    folder: Path
    parts_folder: Path
    overwrite: bool = False
    after: tuple[Path, ...] = ()
    listed: bool = True
    cell: str = ""
    same_as: Path | None = None

    @property
    def epochs(self) -> int:
        """Number of epochs that are trained: none if it is copied, or its method trains nothing."""
        trains = all(METHODS[name].trains for name in base_names(self.settings.method))
        return self.settings.budget.epochs if trains and self.same_as is None else 0


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `error` is None if it finished; `details` is the traceback of an unexpected error."""

    job: Job
    error: str | None = None
    details: str = ""


class Agenda:
    """Jobs that wait for others; what they build on and is not among them counts as finished."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._waiting = list(jobs)
        self._open = {job.folder for job in self._waiting}
        self._failed: dict[Path, str] = {}

    def ready(self) -> list[Job]:
        """Return, once each, the jobs whose parts are all finished."""
        found = [job for job in self._waiting if not self._open.intersection(job.after)]
        self._waiting = [job for job in self._waiting if job not in found]
        return found

    def ended(self, outcome: Outcome) -> list[Outcome]:
        """Record that a job has ended; return it with those that can no longer start."""
        if outcome.error is None:
            self._open.discard(outcome.job.folder)
            return [outcome]
        hopeless = [job for job in self._waiting if outcome.job.folder in job.after]
        self._waiting = [job for job in self._waiting if job not in hopeless]
        return [outcome, *(other for job in hopeless for other in self.ended(_without(job, outcome)))]


def _without(job: Job, failed: Outcome) -> Outcome:
    """Return the outcome of a job that cannot start because another one failed."""
    if job.same_as == failed.job.folder:
        return Outcome(job, failed.error)
    name = failed.job.folder.name
    return Outcome(job, f"the run {name}, which it builds on, failed: {failed.error}")


def execute(job: Job) -> Outcome:
    """Compute one job; an error becomes part of its outcome, so that the other runs continue."""
    try:
        with warnings.catch_warnings():
            # The comparison warned once, before the first run.
            warnings.simplefilter("ignore", EquipoiseWarning)
            if job.same_as is not None:
                copy_run(RunRecord(job.same_as), RunRecord(job.folder), overwrite=job.overwrite)
                return Outcome(job)
            run(
                job.settings,
                job.folder,
                resume=not job.overwrite,
                overwrite=job.overwrite,
                parts_folder=job.parts_folder,
                floors=job.parts_folder.parent / FLOORS,
            )
    except EquipoiseError as error:
        return Outcome(job, str(error))
    except Exception as error:
        return Outcome(job, f"{type(error).__name__}: {error}", traceback.format_exc())
    return Outcome(job)
