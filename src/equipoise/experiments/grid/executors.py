"""Where the runs of a grid are computed: processes of this machine, or a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Protocol

from equipoise.experiments.grid.jobs import Agenda, Job, Outcome, execute
from equipoise.experiments.grid.on_ray import RayExecutor
from equipoise.types import UsageError, check_known

EXECUTORS = ("local", "ray")


class Executor(Protocol):
    """Computes jobs, each after those that it builds on."""

    def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Yield the outcome of each job as it ends."""


def make_executor(name: str, workers: int | None = None) -> Executor:
    """Return an executor by name.

    Raises:
        UnknownNameError: there is none of that name.
        MissingExtraError: the package it needs is not installed.
    """
    check_known("executor", [name], EXECUTORS)
    if workers is not None and not (hasattr(workers, "__index__") and workers >= 1):
        raise UsageError(f"workers is {workers!r}; expected a whole number of at least 1.")
    return RayExecutor(workers) if name == "ray" else LocalExecutor(workers)


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
        pool = ProcessPoolExecutor(workers, context, initializer=_end_with_command)
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


def _end_with_command() -> None:
    """End a worker without a traceback when the terminal interrupts the command, and when that was killed.

    Otherwise a worker would finish its run, and then wait for the next one forever.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_wait_for_command, daemon=True).start()


def _wait_for_command() -> None:
    command = multiprocessing.parent_process()
    assert command is not None  # this is a worker
    command.join()
    os._exit(1)


def _default_workers() -> int:
    import torch

    if torch.accelerator.is_available():
        return 1
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
