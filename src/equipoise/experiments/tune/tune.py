"""Tune methods: equally many trials for each, judged on validation alone."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from equipoise.data import PreparedDataset, splits_of
from equipoise.experiments.compare.tuned import Tuned, TunedMethod, shared_options
from equipoise.experiments.grid.executors import default_workers
from equipoise.experiments.grid.planning import Plan, checked_seeds, expand
from equipoise.experiments.tune import studies
from equipoise.experiments.tune.compute import compute
from equipoise.experiments.tune.folder import (
    check_same,
    clear,
    held_tuning,
    shown_url,
    storage_url,
)
from equipoise.experiments.tune.trial import Ended
from equipoise.experiments.tune.tuning import WORK, Tuning
from equipoise.files.whole import room_for
from equipoise.methods.core.creation import trains
from equipoise.tasks import task_named
from equipoise.training.measuring.precision import with_precision
from equipoise.training.processes.group import refuse_several
from equipoise.training.record.locks import locked
from equipoise.training.settings import Settings
from equipoise.types import NoSpaceError, RunFolderError, UsageError

TRIALS: Final = 20
SEED: Final = 1000
"""Seed of the trials, which no comparison has by default."""
RESERVE: Final = "reserve"
RESERVED: Final = 2**17
"""Bytes that are given back when the disk is full, to say so in the database."""


class Observer(Protocol):
    """Is notified of the progress of a tuning."""

    def planned(self, trials: int, done: int) -> None:
        """The number of trials is known, with those that were done before; no other has started."""

    def ended(self, trial: Ended) -> None:
        """A trial has ended."""


@dataclass(frozen=True)
class TuningResult:
    """What a tuning gave.

    Attributes:
        tuned: the settings that were found.
        left_out: methods of a group that cannot train the model, with the reason.
        missing: methods without a result, with the reason.
    """

    tuned: Tuned
    left_out: Mapping[str, str]
    missing: Mapping[str, str]


def tune_methods(
    settings: Settings,
    methods: Sequence[str],
    folder: Path,
    *,
    trials: int = TRIALS,
    seeds: Iterable[int] = (SEED,),
    method_options: Mapping[str, Mapping[str, Any]] | None = None,
    storage: str | None = None,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> TuningResult:
    """Tune methods, and write `tuned.yaml`; see `equipoise.tune` for the arguments.

    Raises:
        UsageError, DataError, RunFolderError: before the first trial, if methods, options, data or the folder
            are wrong.
    """
    refuse_several()
    _check(trials, workers, storage, overwrite)
    seeds, options = checked_seeds(seeds), dict(method_options or {})
    held = held_tuning(folder, resume=resume, overwrite=overwrite)
    settings = with_precision(settings, held.settings if held else {})
    plan = expand(settings, methods, options, seeds[0])
    parts = _parts(plan)
    new = _new(settings, plan, folder, trials, seeds, storage)
    if held is not None:
        check_same(held, new)
        asked = list(dict.fromkeys([*held.asked, *new.asked]))
        new = replace(new, owner=held.owner, asked=asked, methods=held.methods)
    tuning = _tuning(settings, new, plan, parts, options, storage_url(folder, storage))
    if tuning.shared:  # wrong use is to be noticed before anything is written
        studies.open_study(tuning, next(iter(parts)))
    with locked(folder):
        if held_tuning(folder, resume=resume, overwrite=overwrite) != held:
            raise RunFolderError(f"{folder} has been changed by another process; give the command again.")
        clear(folder, keep_trials=held is not None)
        new.write()
        try:
            missing = _compute(tuning, new, workers, observer)
        finally:
            shutil.rmtree(folder / WORK, ignore_errors=True)
    missing |= {
        name: f"no trial of {name} has finished."
        for name in parts
        if name not in missing and new.methods[name].best is None
    }
    return TuningResult(new, plan.left_out, missing)


def _check(trials: int, workers: int | None, storage: str | None, overwrite: bool) -> None:
    for name, value in (("trials", trials), ("workers", workers)):
        if value is not None and not (hasattr(value, "__index__") and value >= 1):
            raise UsageError(f"{name} is {value!r}; expected a whole number of at least 1.")
    if storage is not None and overwrite:
        raise UsageError(
            "overwrite would leave the trials in the storage, on which other machines may be working; "
            "another seed (--seed) starts a new tuning there."
        )


def _parts(plan: Plan) -> dict[str, list[str]]:
    """Return the methods to tune with those that each builds on; what trains nothing is not tuned."""
    found = {name: parts for name, parts in plan.parts.items() if trains(name)}
    unnamed = [part for parts in plan.parts.values() for part in parts if part not in found]
    if not found and not unnamed:
        raise UsageError("none of the methods trains anything; expected one that has settings to tune.")
    return {**{name: [] for name in unnamed}, **found}


def _new(
    settings: Settings, plan: Plan, folder: Path, trials: int, seeds: list[int], storage: str | None
) -> Tuned:
    return Tuned(
        folder=folder.resolve(),
        dataset=plan.data.name,
        data_fingerprint=plan.data.fingerprint,
        split_fingerprint=_splits(plan.data, settings, seeds),
        figure=settings.budget.selector(task_named(plan.data.task)),
        trials=int(trials),
        seeds=seeds,
        settings=shared_options(settings),
        storage=shown_url(storage),
        owner=secrets.token_hex(8),
        asked=list(plan.parts),
    )


def _splits(dataset: PreparedDataset, settings: Settings, seeds: list[int]) -> str:
    """Return the fingerprint of the splits.

    Raises:
        UsageError: they depend on the seed, so that a comparison would test on samples of the tuning.
    """
    wanted = [seeds[0], seeds[0] + 1]
    found = {splits_of(dataset, replace(settings, seed=seed).splitting_seed).fingerprint for seed in wanted}
    if len(found) > 1:
        raise UsageError(
            "split_seed is 'run', which draws other splits for each seed: a comparison would test on samples "
            "by which the settings were chosen; expected a number, the same in both."
        )
    return found.pop()


def _tuning(
    settings: Settings,
    new: Tuned,
    plan: Plan,
    parts: Mapping[str, list[str]],
    options: Mapping[str, Mapping[str, Any]],
    url: str,
) -> Tuning:
    task = task_named(plan.data.task)
    return Tuning(
        folder=new.folder,
        # Nothing but the figures of a trial is kept, so it needs neither diagnoses nor checkpoints.
        settings=replace(settings, diagnose_every=0, trace=False, checkpoint_every=settings.budget.epochs),
        options=options,
        seeds=tuple(new.seeds),
        trials=new.trials,
        storage=url,
        shared=new.storage is not None,
        owner=new.owner,
        figure=new.figure,
        less_is_better=new.figure == "loss" or new.figure in task.errors,
        parts=parts,
        data_fingerprint=new.data_fingerprint,
    )


def _compute(tuning: Tuning, new: Tuned, workers: int | None, observer: Observer | None) -> dict[str, str]:
    """Compute all trials, and write the result of each method as soon as there is one."""
    methods, done = list(tuning.parts), 0
    studies.storage_at.cache_clear()  # an earlier file may have been replaced
    for name in methods:
        with room_for(tuning.database):
            study = studies.open_study(tuning, name)
            studies.give_up_lost(study, tuning)
        done += min(len(studies.counted(study)), tuning.trials)
        new.methods.pop(name, None)
    _reserve(tuning)
    if observer is not None:
        observer.planned(len(methods) * tuning.trials, done)

    def found(name: str, result: TunedMethod) -> None:
        new.methods[name] = result
        new.write()

    def ended(trial: Ended) -> None:
        if observer is not None:
            observer.ended(trial)

    try:
        missing = compute(tuning, methods, workers or default_workers(), ended, found)
    except (KeyboardInterrupt, NoSpaceError):
        _give_back(tuning)
        raise
    ordered = {name: new.methods[name] for name in [*tuning.parts, *new.methods] if name in new.methods}
    new.methods.clear()
    new.methods.update(ordered)
    new.write()
    return missing


def _reserve(tuning: Tuning) -> None:
    """Take the room on the disk that `_give_back` needs when there is no other."""
    folder = tuning.folder / WORK
    with room_for(folder / RESERVE):
        folder.mkdir(exist_ok=True)
        (folder / RESERVE).write_bytes(bytes(RESERVED))


def _give_back(tuning: Tuning) -> None:
    """Note that the trials in progress were ended, which is no fault of theirs: they are repeated."""
    shutil.rmtree(tuning.folder / WORK, ignore_errors=True)
    with suppress(Exception):  # without the note one more trial counts as lost
        for name in tuning.parts:
            studies.give_back(studies.open_study(tuning, name), tuning)
