"""Where the runs of a grid are computed: processes of this machine, or a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from equipoise.training.fit import run
from equipoise.training.record.copies import copy_run
from equipoise.training.record.files import first_line
from equipoise.training.record.record import FLOORS, RunRecord
from equipoise.training.settings import Settings
from equipoise.types import EquipoiseError, EquipoiseWarning, MissingExtraError, UsageError, check_known

EXECUTORS = ("local", "ray")


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


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `error` is None if it finished; `details` is the traceback of an unexpected error."""

    job: Job
    error: str | None = None
    details: str = ""


class Executor(Protocol):
    """Computes jobs, each after those that it builds on."""

    def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Yield the outcome of each job as it ends."""


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


def make_executor(name: str, workers: int | None = None) -> Executor:
    """Return an executor by name.

    Raises:
        UnknownNameError: there is none of that name.
        MissingExtraError: the package it needs is not installed.
    """
    check_known("executor", [name], EXECUTORS)
    if workers is not None and not (hasattr(workers, "__index__") and workers >= 1):
        raise UsageError(f"workers is {workers!r}; expected a whole number of at least 1.")
    return RayExecutor() if name == "ray" else LocalExecutor(workers)


class LocalExecutor:
    """Processes of this machine; with one worker, this process.

    By default there is one worker for each core on a machine without an accelerator, otherwise one.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or _default_workers()

    def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Yield the outcome of each job as it ends."""
        pending = list(jobs)
        agenda = Agenda(pending)
        workers = min(self.workers, len(pending))
        if workers <= 1:
            while ready := agenda.ready():
                for job in ready:
                    yield from agenda.ended(execute(job))
            return
        others = set(multiprocessing.active_children())
        try:
            yield from _in_processes(workers, agenda)
        except BaseException:
            # Interrupted: the runs have their checkpoints, so they need not end first.
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise


def _in_processes(workers: int, agenda: Agenda) -> Iterator[Outcome]:
    """Compute jobs in pools of processes; if a process dies, its pool is lost and replaced by a new one.

    Which of the running jobs caused this is unknown. Each of them is tried once more, by itself.
    """
    # A forked child would inherit torch's threads in an undefined state.
    context = multiprocessing.get_context("spawn")
    queue, suspects = deque(agenda.ready()), deque[Job]()
    while queue or suspects:
        pool = ProcessPoolExecutor(workers, context, initializer=_end_quietly)
        try:
            yield from _in_pool(pool, workers, agenda, queue, suspects)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _in_pool(
    pool: ProcessPoolExecutor, workers: int, agenda: Agenda, queue: deque[Job], suspects: deque[Job]
) -> Iterator[Outcome]:
    """Work until nothing is left or the pool is lost; then the running jobs become suspects."""
    working: dict[Future[Outcome], Job] = {}
    children: set[BaseProcess] = set()
    while queue or suspects or working:
        alone = bool(suspects) and not working
        while suspects if alone else (queue and len(working) < workers and not suspects):
            job = suspects.popleft() if alone else queue.popleft()
            working[pool.submit(execute, job)] = job
            if alone:
                break
        lost = False
        children.update(multiprocessing.active_children())
        for future in wait(working, return_when=FIRST_COMPLETED).done:
            job, error = working.pop(future), future.exception()
            if error is None:
                yield from agenda.ended(future.result())
            elif alone or not isinstance(error, BrokenProcessPool):
                yield from agenda.ended(Outcome(job, f"the worker process ended: {error}"))
                lost = lost or isinstance(error, BrokenProcessPool)
            else:
                suspects.append(job)
                lost = True
        queue.extend(agenda.ready())
        if lost:
            # A future fails as soon as its process has closed its files; its exit code is known only later.
            pool.shutdown(wait=True, cancel_futures=True)
            if any(child.exitcode == -signal.SIGINT for child in children):
                raise KeyboardInterrupt  # from the terminal; the processes received it first
            suspects.extend(working.values())
            return


class RayExecutor:
    """A Ray cluster; the output folder must be one that all its machines share."""

    def __init__(self) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtraError("ray", "ray", "the executor 'ray'") from None
        self._ray = ray

    def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Yield the outcome of each job as it ends."""
        if not self._ray.is_initialized():
            self._ray.init(log_to_driver=False)
        import torch

        # A job that requests no GPU sees none.
        remote = self._ray.remote(num_gpus=int(torch.cuda.is_available()))(execute)
        agenda = Agenda(jobs)
        pending = {remote.remote(job): job for job in agenda.ready()}
        while pending:
            done, _ = self._ray.wait(list(pending))
            for reference in done:
                job = pending.pop(reference)
                try:
                    outcome = self._ray.get(reference)
                except self._ray.exceptions.RayError as error:
                    outcome = Outcome(job, f"the worker ended: {first_line(error)}")
                yield from agenda.ended(outcome)
            pending |= {remote.remote(job): job for job in agenda.ready()}


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


def _end_quietly() -> None:
    """End a worker without a traceback when the terminal interrupts the command."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _default_workers() -> int:
    import torch

    if torch.accelerator.is_available():
        return 1
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
