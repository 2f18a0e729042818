"""The runs of a grid: what each is, in which order they may start, and its computation."""

from __future__ import annotations

import json
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from equipoise.files.limits import machine_limit
from equipoise.methods import METHODS
from equipoise.methods.core.creation import trains
from equipoise.training.fit import run
from equipoise.training.option_text import to_options
from equipoise.training.record.copies import copy_run
from equipoise.training.record.record import FLOORS, RunRecord
from equipoise.training.settings import Settings
from equipoise.training.side_by_side.runs import RunArguments, run_together
from equipoise.training.side_by_side.together import stacks
from equipoise.types import EquipoiseError, EquipoiseWarning, NoSpaceError


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
        part_settings: by name, the runs that it builds on whose settings are not its own.
    """

    settings: Settings
    folder: Path
    parts_folder: Path
    overwrite: bool = False
    after: tuple[Path, ...] = ()
    listed: bool = True
    cell: str = ""
    same_as: Path | None = None
    part_settings: Mapping[str, Settings] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Number of epochs that are trained: none if it is copied, or its method trains nothing."""
        trained = trains(self.settings.method) and self.same_as is None
        return self.settings.budget.epochs if trained else 0


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: the job.
        error: None if it finished.
        details: the traceback of an unexpected error.
        no_space: whether it ended for want of room on the disk, so that no other job can end better.
    """

    job: Job
    error: str | None = None
    details: str = ""
    no_space: bool = False


class Agenda:
    """Jobs that wait for others; what they build on and is not among them counts as finished."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._waiting = list(jobs)
        self._open = {job.folder for job in self._waiting}

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


Bundle = tuple[Job, ...]
"""Jobs that one process computes together; often a single one."""


def bundles(jobs: Sequence[Job], most: int) -> list[Bundle]:
    """Return jobs in bundles of at most `most` that differ by seed and may be trained side by side."""
    groups: dict[object, list[Job]] = {}
    for number, job in enumerate(jobs):
        groups.setdefault(_common(job) if most > 1 else number, []).append(job)
    return [tuple(group[at : at + most]) for group in groups.values() for at in range(0, len(group), most)]


def _common(job: Job) -> object:
    """Return what jobs of a bundle have in common; of one that is not trained side by side, the job."""
    kind = METHODS.get(job.settings.method.partition(":")[0])
    if job.same_as is not None or kind is None or not stacks(kind):
        return job.folder
    same = to_options(replace(job.settings, seed=0))
    return json.dumps([same, job.overwrite, job.cell, str(job.parts_folder)], sort_keys=True)


def execute(bundle: Bundle) -> list[Outcome]:
    """Compute jobs; an error becomes part of an outcome, so that the other runs continue."""
    with warnings.catch_warnings():
        # The comparison warned once, before the first run.
        warnings.simplefilter("ignore", EquipoiseWarning)
        if len(bundle) == 1:
            return [_outcome(bundle[0], _error_of(bundle[0]))]
        errors = run_together([(job.settings, _arguments(job)) for job in bundle])
        return [_outcome(job, error) for job, error in zip(bundle, errors, strict=True)]


def _error_of(job: Job) -> Exception | None:
    """Compute one job, and return its error."""
    try:
        if job.same_as is not None:
            copy_run(RunRecord(job.same_as), RunRecord(job.folder), overwrite=job.overwrite)
        else:
            run(job.settings, **_arguments(job))
    except Exception as error:
        return error
    return None


def _arguments(job: Job) -> RunArguments:
    return RunArguments(
        folder=job.folder,
        resume=not job.overwrite,
        overwrite=job.overwrite,
        parts_folder=job.parts_folder,
        floors=job.parts_folder.parent / FLOORS,
        part_settings=job.part_settings,
        group=job.parts_folder.parent,
    )


def _outcome(job: Job, error: Exception | None) -> Outcome:
    limit = None if error is None else machine_limit(error)
    if error is None or (limit is None and isinstance(error, EquipoiseError)):
        full = isinstance(error, NoSpaceError)
        return Outcome(job, None if error is None else str(error), no_space=full)
    details = "".join(traceback.format_exception(error))
    return Outcome(job, str(limit) if limit else f"{type(error).__name__}: {error}", details)
