"""Where the runs of a grid are computed: processes of this machine, or a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

from equipoise.children import Workers, end_with_parent
from equipoise.experiments.grid.jobs import Agenda, Bundle, Job, Outcome, bundles, execute
from equipoise.experiments.grid.on_ray import RayExecutor
from equipoise.types import UsageError, check_known, warn

EXECUTORS = ("local", "ray")


class Executor(Protocol):
    """Computes jobs, each after those that it builds on."""

    def map(self, jobs: Iterable[Job]) -> Generator[Outcome]:
        """Yield the outcome of each job as it ends."""


def make_executor(name: str, workers: int | None = None, together: int = 1) -> Executor:
    """Return an executor by name; `together` is the largest number of runs that it trains side by side.

    Raises:
        UnknownNameError: there is none of that name.
        MissingExtraError: the package it needs is not installed.
    """
    check_known("executor", [name], EXECUTORS)
    if workers is not None and not (hasattr(workers, "__index__") and workers >= 1):
        raise UsageError(f"workers is {workers!r}; expected a whole number of at least 1.")
    if not (hasattr(together, "__index__") and together >= 1):
        raise UsageError(f"side_by_side is {together!r}; expected a whole number of at least 1.")
    return RayExecutor(workers, together) if name == "ray" else LocalExecutor(workers, together)


class LocalExecutor:
    """Processes of this machine; with one worker, this process.

    By default there is one worker for each core on a machine without an accelerator, otherwise one.
    """

    def __init__(self, workers: int | None = None, together: int = 1) -> None:
        self.workers, self.together = workers or default_workers(), together

    def map(self, jobs: Iterable[Job]) -> Generator[Outcome]:
        """Yield the outcome of each job as it ends."""
        pending = list(jobs)
        agenda = Agenda(pending)
        workers = min(self.workers, len(pending))
        if workers <= 1:
            while ready := bundles(agenda.ready(), self.together):
                for outcome in (outcome for bundle in ready for outcome in execute(bundle)):
                    yield from agenda.ended(outcome)
            return
        others = set(multiprocessing.active_children())
        try:
            yield from _in_processes(workers, agenda, self.together)
        except BaseException:
            # Interrupted: the runs have their checkpoints, so they need not end first.
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise


def _in_processes(workers: int, agenda: Agenda, together: int) -> Iterator[Outcome]:
    """Compute jobs in pools of processes; if a process dies, its pool is lost and replaced by a new one.

    Which of the running jobs caused this is unknown. Each of them is tried once more, by itself.
    """
    queue, suspects = deque(shares(agenda.ready(), workers, together)), deque[Job]()
    while queue or suspects:
        pool = Workers(workers, end_with_command)
        try:
            yield from _in_pool(pool, workers, agenda, together, queue, suspects)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def shares(jobs: Sequence[Job], workers: int, together: int) -> list[Bundle]:
    """Return jobs in bundles small enough that no worker is without one."""
    return bundles(jobs, max(1, min(together, -(-len(jobs) // workers))))


def _in_pool(
    pool: Workers,
    workers: int,
    agenda: Agenda,
    together: int,
    queue: deque[Bundle],
    suspects: deque[Job],
) -> Iterator[Outcome]:
    """Work until nothing is left or the pool is lost; then the running jobs become suspects."""
    working: dict[Future[list[Outcome]], Bundle] = {}
    while queue or suspects or working:
        alone = bool(suspects) and not working
        while suspects if alone else (queue and len(working) < workers and not suspects):
            bundle = (suspects[0],) if alone else queue[0]
            try:
                working[pool.submit(execute, bundle)] = bundle
            except BrokenProcessPool:  # lost since the last wait; the futures of what is working say so too
                if not working:
                    return
                break
            (suspects if alone else queue).popleft()
            if alone:
                break
        lost: list[Job] = []
        for future in wait(working, return_when=FIRST_COMPLETED).done:
            bundle, error = working.pop(future), future.exception()
            if isinstance(error, BrokenProcessPool):
                lost += bundle
                continue
            failed = f"the worker process failed: {error}"
            for outcome in future.result() if error is None else [Outcome(job, failed) for job in bundle]:
                yield from agenda.ended(outcome)
        queue.extend(shares(agenda.ready(), workers, together))
        if lost:
            _, how = pool.how_lost()
            suspects.extend([job for bundle in working.values() for job in bundle])
            if not alone:
                suspects.extendleft(reversed(lost))
                names = ", ".join(job.folder.name for job in suspects)
                warn(f"a worker process {how}; what was in progress is tried again, one at a time: {names}.")
                return
            for job in lost:
                yield from agenda.ended(Outcome(job, f"the worker process {how}"))
            queue.extend(shares(agenda.ready(), workers, together))
            return


def end_with_command() -> None:
    """End a worker without a traceback when the terminal interrupts the command, and when that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()


def default_workers() -> int:
    """Return the number of cores; with an accelerator one, as runs would have to share it."""
    import torch

    if torch.accelerator.is_available():
        return 1
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
