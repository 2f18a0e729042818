"""All trials of a tuning, by processes of this machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from equipoise.children import Workers
from equipoise.experiments.compare.tuned import TunedMethod
from equipoise.experiments.grid.executors import end_with_command
from equipoise.experiments.tune import studies
from equipoise.experiments.tune.trial import Ended, next_trial
from equipoise.experiments.tune.tuning import Tuning
from equipoise.types import TrainingError, warn

GRACE: Final = 10.0
"""Seconds that a process has to end."""


def compute(
    tuning: Tuning,
    methods: Sequence[str],
    workers: int,
    ended: Callable[[Ended], None],
    found: Callable[[str, TunedMethod], None],
) -> dict[str, str]:
    """Compute all trials of the methods, each method after those on whose runs it builds.

    The trials of one method follow each other, as each depends on those before it; so at most one worker
    computes a method. If a process dies, what was in progress is tried once more, by itself. `ended` is
    called with each trial, `found` with the result of each method.

    Raises:
        NoSpaceError: there is no room for a trial.

    Returns:
        The methods that have no result yet, with the reason: trials that are in progress elsewhere.
    """
    work = _Work(tuning, workers, ended, found, list(methods))
    work.release()
    while work.ready or work.suspects:
        with _pool(min(workers, len(methods))) as pool:
            work.in_pool(pool)
    for method in work.waiting:
        parts_open = [name for name in tuning.parts[method] if name not in work.results]
        work.missing[method] = f"{method} builds on {', '.join(parts_open)}, whose trials have not all ended."
    return work.missing


@dataclass
class _Work:
    """Methods on their way to a result.

    Attributes:
        waiting: methods that build on others without a result.
        ready: methods whose next trial can be computed.
        suspects: methods one of which may have ended a process; each of their trials is repeated by itself.
        results: of the methods whose trials have all ended.
        missing: methods without a result, with the reason.
    """

    tuning: Tuning
    workers: int
    ended: Callable[[Ended], None]
    found: Callable[[str, TunedMethod], None]
    waiting: list[str]
    ready: deque[str] = field(default_factory=deque)
    suspects: deque[str] = field(default_factory=deque)
    results: dict[str, TunedMethod] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def release(self) -> None:
        """Make those that wait ready whose parts have results."""
        free = [name for name in self.waiting if self.results.keys() >= set(self.tuning.parts.get(name, ()))]
        self.waiting = [name for name in self.waiting if name not in free]
        self.ready.extend(free)

    def in_pool(self, pool: Executor) -> None:
        """Compute trials until none is left, or a process of the pool has ended by itself."""
        working: dict[Future[Ended | None], str] = {}
        while self.ready or self.suspects or working:
            alone = bool(self.suspects) and not working
            queue = self.suspects if alone else self.ready
            most = 1 if alone else 0 if self.suspects else self.workers
            while queue and len(working) < most:
                method = queue[0]
                parts = {name: self.results[name] for name in self.tuning.parts.get(method, ())}
                try:
                    working[pool.submit(next_trial, self.tuning, method, parts)] = method
                except BrokenProcessPool:  # since the last wait; what is working says so too
                    if not working:
                        return
                    break
                queue.popleft()
            lost = []
            for future in wait(working, return_when=FIRST_COMPLETED).done:
                method = working.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    lost.append(method)
                else:
                    self._took(method, future.result())
            if lost:
                assert isinstance(pool, Workers)
                self._lose(pool, [*lost, *working.values()], alone=alone)
                return

    def _took(self, method: str, trial: Ended | None) -> None:
        """Go on with a method after a trial; None says that there are no more."""
        if trial is not None:
            self.ended(trial)
            self.ready.append(method)
            return
        try:
            study = studies.open_study(self.tuning, method)
            self.results[method] = studies.result_of(study, self.tuning, method)
        except TrainingError as error:
            self.missing[method] = str(error)
            return
        self.found(method, self.results[method])
        self.release()

    def _lose(self, pool: Workers, methods: Sequence[str], *, alone: bool) -> None:
        """Have the trials in progress repeated by themselves; only one that was alone counts as lost."""
        _, how = pool.how_lost()
        mark = studies.give_up_lost if alone or len(methods) == 1 else studies.give_back
        for method in methods:
            mark(studies.open_study(self.tuning, method), self.tuning)
        self.suspects.extend(methods)
        warn(f"a worker process {how}; what was in progress is tried again, by itself: {', '.join(methods)}.")


class _Here(Executor):
    """Computes what is submitted at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return a future that is done."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    """Yield where trials are computed: with one worker, this process."""
    if workers <= 1:
        yield _Here()
        return
    pool = Workers(workers, end_with_command)
    try:
        yield pool
    except BaseException:
        for child in pool.children:
            child.terminate()
        for child in pool.children:  # their trials are given back once none of them is alive
            child.join(GRACE)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
