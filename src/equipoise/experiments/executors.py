"""Where the runs of a comparison are computed: processes of this machine, or a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from equipoise.training import Settings, run
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
    """

    settings: Settings
    folder: Path
    parts_folder: Path
    overwrite: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a task ended; `error` is None where it is finished, `details` a traceback for unforeseen errors."""

    task: Task
    error: str | None = None
    details: str = ""


class Executor(Protocol):
    """Something that computes tasks, in any order."""

    def map(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield the outcome of each task as it ends."""


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
        if min(self.workers, len(pending)) <= 1:
            yield from map(execute, pending)
            return
        # A forked child would inherit torch's threads in an undefined state.
        context = multiprocessing.get_context("spawn")
        others = set(multiprocessing.active_children())
        workers = min(self.workers, len(pending))
        with ProcessPoolExecutor(workers, context, initializer=_end_quietly) as pool:
            futures = {pool.submit(execute, task): task for task in pending}
            try:
                for future in as_completed(futures):
                    error = future.exception()
                    if error is None:
                        yield future.result()
                    else:  # the process died, for want of memory say
                        yield Outcome(futures[future], f"the worker process ended: {error}")
            except BaseException:
                # Interrupted: the runs have their checkpoints, so nobody needs to wait for them.
                for child in set(multiprocessing.active_children()) - others:
                    child.terminate()
                pool.shutdown(wait=False, cancel_futures=True)
                raise


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
        pending = {remote.remote(task): task for task in tasks}
        while pending:
            done, _ = self._ray.wait(list(pending))
            for reference in done:
                task = pending.pop(reference)
                try:
                    yield self._ray.get(reference)
                except self._ray.exceptions.RayError as error:
                    yield Outcome(task, f"the worker ended: {str(error).splitlines()[0]}")


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
