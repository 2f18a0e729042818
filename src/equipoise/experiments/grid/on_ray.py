"""The runs of a grid on a Ray cluster."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.experiments.grid.jobs import Agenda, Job, Outcome, execute
from equipoise.training.record.files import first_line
from equipoise.types import MissingExtraError


class RayExecutor:
    """A Ray cluster: the one that is running, or a new one on this machine.

    By default it computes as many runs at a time as the cluster has room for, each on one CPU, and on a GPU
    where there are any. The output folder and the data must be at the same place on all its machines.
    """

    def __init__(self, workers: int | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtraError("ray", "ray", "the executor 'ray'") from None
        self._ray, self._workers = ray, workers

    def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Yield the outcome of each job as it ends."""
        pending = list(jobs)
        if not pending:
            return
        ours = not self._ray.is_initialized()
        if ours:
            self._ray.init(log_to_driver=False)
        try:
            yield from self._computed(Agenda(pending), self._workers or len(pending))
        finally:
            if ours:
                self._ray.shutdown()

    def _computed(self, agenda: Agenda, at_once: int) -> Iterator[Outcome]:
        remote = self._ray.remote(max_retries=1)(_execute_in)
        gpus = bool(self._ray.cluster_resources().get("GPU"))
        queue, working = deque(agenda.ready()), dict[Any, Job]()
        try:
            while queue or working:
                while queue and len(working) < at_once:
                    job = queue.popleft()
                    # A job that requests no GPU sees none.
                    own = remote.options(num_gpus=int(gpus and job.settings.device != "cpu"))
                    working[own.remote(str(Path.cwd()), _anywhere(job))] = job
                for reference in self._ray.wait(list(working))[0]:
                    job = working.pop(reference)
                    try:
                        outcome = replace(self._ray.get(reference), job=job)
                    except self._ray.exceptions.RayError as error:
                        outcome = Outcome(job, f"the worker ended: {first_line(error)}")
                    yield from agenda.ended(outcome)
                queue.extend(agenda.ready())
        finally:
            for reference in working:
                self._ray.cancel(reference, force=True)


def _execute_in(folder: str, job: Job) -> Outcome:
    """Compute a job in the folder of the command, from which a model of the user's own is imported."""
    if Path(folder).is_dir():
        os.chdir(folder)
    return execute(job)


def _anywhere(job: Job) -> Job:
    """Return a job whose folders do not depend on the current one."""
    return replace(
        job,
        folder=job.folder.absolute(),
        parts_folder=job.parts_folder.absolute(),
        same_as=job.same_as and job.same_as.absolute(),
    )
