"""Where the runs of a comparison are computed: processes of this machine, or a Ray cluster."""

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
from equipoise.training.record.files import first_line
from equipoise.training.settings import Settings
from equipoise.types import EquipoiseError, EquipoiseWarning, MissingExtraError, UnknownNameError, UsageError

EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class Task:
    """One run of a comparison.

    Attributes:
        settings: the run.
        folder: of its record.
        parts_folder: where the runs lie that it builds on.
        overwrite: whether a record in the folder is replaced; else it is gone on with.
        after: folders of the tasks whose runs this one builds on.
        listed: whether the run was asked for; else others build on it.
    """

    settings: Settings
    folder: Path
    parts_folder: Path
    overwrite: bool = False
    after: tuple[Path, ...] = ()
    listed: bool = True


@dataclass(frozen=True)
class Outcome:
    """How a task ended; `error` is None where it is finished, `details` a traceback for unforeseen errors."""

    task: Task
    error: str | None = None
    details: str = ""


class Executor(Protocol):
    """Something that computes tasks, each behind those that it builds on."""

    def map(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield the outcome of each task as it ends."""


class Agenda:
    """Tasks that wait for others.

    Args:
        tasks: all of them; what they build on and is not among them is taken as finished.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._waiting = list(tasks)
        self._open = {task.folder for task in self._waiting}
        self._failed: dict[Path, str] = {}

    def ready(self) -> list[Task]:
        """Return, once each, the tasks for which all that they build on has come to a good end."""
        found = [task for task in self._waiting if not self._open.intersection(task.after)]
        self._waiting = [task for task in self._waiting if task not in found]
        return found

    def ended(self, outcome: Outcome) -> list[Outcome]:
        """Note that a task has ended; return it with those that now can never begin."""
        if outcome.error is None:
            self._open.discard(outcome.task.folder)
            return [outcome]
        hopeless = [task for task in self._waiting if outcome.task.folder in task.after]
        self._waiting = [task for task in self._waiting if task not in hopeless]
        reason = f"the run {outcome.task.folder.name}, which it builds on, failed: {outcome.error}"
        return [outcome, *(ended for task in hopeless for ended in self.ended(Outcome(task, reason)))]


def make_executor(name: str, workers: int | None = None) -> Executor:
    """Return an executor by name.

    Raises:
        UnknownNameError: there is none of that name.
        MissingExtraError: the package it needs is not installed.
    """
    if name not in EXECUTORS:
        raise UnknownNameError("executor", name, EXECUTORS)
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}; expected at least 1.")
    return RayExecutor() if name == "ray" else LocalExecutor(workers)


class LocalExecutor:
    """Processes of this machine; with one worker, this process.

    Args:
        workers: number of processes; None takes one for each core on a machine without an accelerator, else
            one.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or _default_workers()

    def map(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield the outcome of each task as it ends."""
        pending = list(tasks)
        agenda = Agenda(pending)
        workers = min(self.workers, len(pending))
        if workers <= 1:
            while ready := agenda.ready():
                for task in ready:
                    yield from agenda.ended(execute(task))
            return
        others = set(multiprocessing.active_children())
        try:
            yield from _in_processes(workers, agenda)
        except BaseException:
            # Interrupted: the runs have their checkpoints, so nobody needs to wait for them.
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise


def _in_processes(workers: int, agenda: Agenda) -> Iterator[Outcome]:
    """Compute tasks in pools of processes; where one dies its pool is lost, and another takes its place.

    Which of the tasks at work it died of cannot be told. Each of them is tried once more, by itself.
    """
    # A forked child would inherit torch's threads in an undefined state.
    context = multiprocessing.get_context("spawn")
    queue, suspects = deque(agenda.ready()), deque[Task]()
    while queue or suspects:
        pool = ProcessPoolExecutor(workers, context, initializer=_end_quietly)
        try:
            yield from _in_pool(pool, workers, agenda, queue, suspects)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _in_pool(
    pool: ProcessPoolExecutor, workers: int, agenda: Agenda, queue: deque[Task], suspects: deque[Task]
) -> Iterator[Outcome]:
    """Work until nothing is left, or the pool is lost; what was at work then is among the suspects."""
    working: dict[Future[Outcome], Task] = {}
    children: set[BaseProcess] = set()
    while queue or suspects or working:
        alone = bool(suspects) and not working
        while suspects if alone else (queue and len(working) < workers and not suspects):
            task = suspects.popleft() if alone else queue.popleft()
            working[pool.submit(execute, task)] = task
            if alone:
                break
        lost = False
        children.update(multiprocessing.active_children())
        for future in wait(working, return_when=FIRST_COMPLETED).done:
            task, error = working.pop(future), future.exception()
            if error is None:
                yield from agenda.ended(future.result())
            elif alone or not isinstance(error, BrokenProcessPool):
                yield from agenda.ended(Outcome(task, f"the worker process ended: {error}"))
                lost = lost or isinstance(error, BrokenProcessPool)
            else:
                suspects.append(task)
                lost = True
        queue.extend(agenda.ready())
        if lost:
            # A future fails as soon as its process has closed its files; how that ended is known only later.
            pool.shutdown(wait=True, cancel_futures=True)
            if any(child.exitcode == -signal.SIGINT for child in children):
                raise KeyboardInterrupt  # the terminal's, which the processes heard first
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

    def map(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield the outcome of each task as it ends."""
        if not self._ray.is_initialized():
            self._ray.init(log_to_driver=False)
        import torch

        # Without asking for one, a task sees no GPU.
        remote = self._ray.remote(num_gpus=int(torch.cuda.is_available()))(execute)
        agenda = Agenda(tasks)
        pending = {remote.remote(task): task for task in agenda.ready()}
        while pending:
            done, _ = self._ray.wait(list(pending))
            for reference in done:
                task = pending.pop(reference)
                try:
                    outcome = self._ray.get(reference)
                except self._ray.exceptions.RayError as error:
                    outcome = Outcome(task, f"the worker ended: {first_line(error)}")
                yield from agenda.ended(outcome)
            pending |= {remote.remote(task): task for task in agenda.ready()}


def execute(task: Task) -> Outcome:
    """Compute one task; an error becomes part of its outcome, so that the other runs go on."""
    try:
        with warnings.catch_warnings():
            # The comparison warned once, before the first run.
            warnings.simplefilter("ignore", EquipoiseWarning)
            run(
                task.settings,
                task.folder,
                resume=not task.overwrite,
                overwrite=task.overwrite,
                parts_folder=task.parts_folder,
            )
    except EquipoiseError as error:
        return Outcome(task, str(error))
    except Exception as error:
        return Outcome(task, f"{type(error).__name__}: {error}", traceback.format_exc())
    return Outcome(task)


def _end_quietly() -> None:
    """Let a worker end without a traceback of its own when the terminal interrupts the command."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _default_workers() -> int:
    import torch

    if torch.accelerator.is_available():
        return 1
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
