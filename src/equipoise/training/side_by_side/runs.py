"""Whole runs, those that can be trained side by side among them together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypedDict

from equipoise.data import MEMORY_LIMIT
from equipoise.randomness import isolated_rng
from equipoise.training import fit
from equipoise.training.fit import prepared
from equipoise.training.result import PreparedRun
from equipoise.training.settings import Settings
from equipoise.training.side_by_side.together import can_stack, stackable, train_together


class RunArguments(TypedDict):
    """Arguments of `equipoise.training.fit.run`."""

    folder: Path
    resume: bool
    overwrite: bool
    parts_folder: Path | None
    floors: Path | None
    part_settings: Mapping[str, Settings]
    group: Path


def run_together(wanted: Sequence[tuple[Settings, RunArguments]]) -> list[Exception | None]:
    """Train runs that differ by seed, side by side where that changes nothing; return the error of each."""
    errors: list[Exception | None] = [None] * len(wanted)
    left = list(range(len(wanted)))
    with ExitStack() as locks:
        found: dict[int, PreparedRun] = {}
        while left and (not found or _worthwhile(next(iter(found.values())), len(wanted))):
            place = left.pop(0)
            settings, arguments = wanted[place]
            try:
                run = locks.enter_context(prepared(settings, **arguments))
                if run is not None:
                    run.start()
                    found[place] = run
            except Exception as error:
                errors[place] = error
        with isolated_rng():
            for place, failure in _trained(found).items():
                errors[place] = failure
    for place in left:  # only one of these is in memory at a time
        settings, arguments = wanted[place]
        try:
            fit.run(settings, **arguments)
        except Exception as error:
            errors[place] = error
    return errors


def _worthwhile(run: PreparedRun, count: int) -> bool:
    """Return whether `count` runs like this one can be held in memory, and be stacked."""
    numbers = sum(math.prod(shape) for shape, _ in run.spec.shapes.values()) * sum(run.data.sizes.values())
    return 4 * numbers * count <= MEMORY_LIMIT and can_stack(run.training)


def _trained(found: dict[int, PreparedRun]) -> dict[int, Exception]:
    """Train and finish runs; return the errors by place."""
    places, failed = list(found), dict[int, Exception]()
    trainings = [run.training for run in found.values()]
    together = stackable(trainings) if trainings else False
    if together:
        failed = {places[position]: error for position, error in train_together(trainings)}
    for place, run in found.items():
        if place in failed:
            continue
        try:
            if not together:
                run.training.fit()
            run.finish()
        except Exception as error:
            failed[place] = error
    return failed
