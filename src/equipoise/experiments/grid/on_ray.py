"""The runs of a grid on a Ray cluster."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.experiments.grid.jobs import Agenda, Bundle, Job, Outcome, bundles, execute
from equipoise.files.extras import needing
from equipoise.files.untrusted import first_line


class RayExecutor:
    """A Ray cluster: the one that is running, or a new one on this machine.

    By default it computes as many runs at a time as the cluster has room for, each on one CPU, and on a GPU
    where there are any. The output folder and the data must be at the same place on all its machines.
    """

    def __init__(self, workers: int | None = None, together: int = 1) -> None:
        with needing("ray", "ray", "the executor 'ray'"):
            import ray
        self._ray, self._workers, self._together = ray, workers, together

    def map(self, jobs: Iterable[Job]) -> Generator[Outcome]:
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
        queue, working = deque(bundles(agenda.ready(), self._together)), dict[Any, Bundle]()
        try:
            while queue or working:
                while queue and len(working) < at_once:
                    bundle = queue.popleft()
                    # A job that requests no GPU sees none.
                    own = remote.options(num_gpus=int(gpus and bundle[0].settings.device != "cpu"))
                    sent = tuple(_anywhere(job) for job in bundle)
                    working[own.remote(str(Path.cwd()), sent)] = bundle
                for reference in self._ray.wait(list(working))[0]:
                    bundle = working.pop(reference)
                    try:
                        found = self._ray.get(reference)
                        outcomes = [replace(one, job=job) for one, job in zip(found, bundle, strict=True)]
                    except self._ray.exceptions.RayError as error:
                        outcomes = [Outcome(job, f"the worker ended: {first_line(error)}") for job in bundle]
                    for outcome in outcomes:
                        yield from agenda.ended(outcome)
                queue.extend(bundles(agenda.ready(), self._together))
        finally:
            for reference in working:
                self._ray.cancel(reference, force=True)


def _execute_in(folder: str, bundle: Bundle) -> list[Outcome]:
    """Compute jobs in the folder of the command, from which a model of the user's own is imported."""
    if Path(folder).is_dir():
        os.chdir(folder)
    return execute(bundle)


def _anywhere(job: Job) -> Job:
    """Return a job whose folders do not depend on the current one."""
    return replace(
        job,
        folder=job.folder.absolute(),
        parts_folder=job.parts_folder.absolute(),
        same_as=job.same_as and job.same_as.absolute(),
    )
