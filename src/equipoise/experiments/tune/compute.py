"""All trials of a tuning, by processes of this machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Final

from equipoise.children import Workers
from equipoise.experiments.compare.tuned import TunedMethod
from equipoise.experiments.grid.executors import end_with_command
from equipoise.experiments.tune import studies
from equipoise.experiments.tune.trial import Ended, next_trial
from equipoise.experiments.tune.tuning import Tuning
from equipoise.types import TrainingError

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
    computes a method. `ended` is called with each trial, `found` with the result of each method.

    Raises:
        NoSpaceError: there is no room for a trial.
        TrainingError: a process was lost.

    Returns:
        The methods that have no result yet, with the reason: trials that are in progress elsewhere.
    """
    results: dict[str, TunedMethod] = {}
    missing: dict[str, str] = {}
    waiting, working = list(methods), dict[Future[Ended | None], str]()
    ready = deque(_released(waiting, tuning, results))
    with _pool(min(workers, len(methods))) as pool:
        while ready or working:
            while ready and len(working) < workers:
                method = ready.popleft()
                parts = {name: results[name] for name in tuning.parts.get(method, ())}
                working[pool.submit(next_trial, tuning, method, parts)] = method
            for future in wait(working, return_when=FIRST_COMPLETED).done:
                method, trial = working.pop(future), future.result()
                if trial is not None:
                    ended(trial)
                    ready.append(method)
                    continue
                try:
                    results[method] = studies.result_of(studies.open_study(tuning, method), tuning, method)
                except TrainingError as error:
                    missing[method] = str(error)
                    continue
                found(method, results[method])
                ready.extend(_released(waiting, tuning, results))
    for method in waiting:
        parts_open = [name for name in tuning.parts[method] if name not in results]
        missing[method] = f"{method} builds on {', '.join(parts_open)}, whose trials have not all ended."
    return missing


def _released(waiting: list[str], tuning: Tuning, results: dict[str, TunedMethod]) -> list[str]:
    """Take the methods whose parts have results out of those that wait, and return them."""
    free = [name for name in waiting if results.keys() >= set(tuning.parts.get(name, ()))]
    waiting[:] = [name for name in waiting if name not in free]
    return free


class _Here(Executor):
    """Computes what is submitted at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return a future that is done."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    """Yield where trials are computed: with one worker, this process.

    Raises:
        TrainingError: a worker process ended by itself.
    """
    if workers <= 1:
        yield _Here()
        return
    pool = Workers(workers, end_with_command)
    try:
        yield pool
    except BrokenProcessPool:
        _, how = pool.how_lost()
        raise TrainingError(f"a worker process {how}; continue with --resume.") from None
    except BaseException:
        for child in pool.children:
            child.terminate()
        for child in pool.children:  # their trials are given back once none of them is alive
            child.join(GRACE)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
