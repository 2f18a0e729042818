"""One trial of a method: runs that never open the test split, with settings that Optuna suggests."""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from equipoise.experiments.compare.tuned import TunedMethod
from equipoise.experiments.tune import studies
from equipoise.experiments.tune.tuning import WORK, Tuning, mean
from equipoise.files.limits import machine_limit
from equipoise.files.whole import no_space, room_for
from equipoise.randomness import isolated_rng
from equipoise.training.fit import prepared
from equipoise.training.record.names import run_name
from equipoise.training.settings import Settings
from equipoise.types import EquipoiseError, EquipoiseWarning, NoSpaceError, TrainingError

if TYPE_CHECKING:
    import optuna

ATTEMPTS: Final = 2
"""How often a trial is started whose process does not survive it."""
FINISHED, PRUNED, FAILED = "finished", "pruned", "failed"


@dataclass(frozen=True)
class Ended:
    """A trial that has ended.

    Attributes:
        method: its method.
        place: its place among the trials of the method; 0 are the defaults.
        state: `finished`, `pruned` or `failed`.
        value: validation figure of a finished trial.
        cause: why it failed.
    """

    method: str
    place: int
    state: str
    value: float | None = None
    cause: str = ""


def next_trial(tuning: Tuning, method: str, parts: Mapping[str, TunedMethod]) -> Ended | None:
    """Compute the next trial of a method; return None if there are as many as there should be.

    `parts` are the results of the methods whose runs this one builds on.

    Raises:
        NoSpaceError: there is no room for the trial, which has not ended.
    """
    with room_for(tuning.database):
        return _next_trial(tuning, method, parts)


def _next_trial(tuning: Tuning, method: str, parts: Mapping[str, TunedMethod]) -> Ended | None:
    study = studies.open_study(tuning, method)
    if len(studies.counted(study)) >= tuning.trials:
        return None
    trial = study.ask()
    trial.set_user_attr(studies.OWNER, tuning.owner)
    place = studies.place_of(trial.number, study.get_trials(deepcopy=False))
    if place >= tuning.trials:  # another machine was faster
        study.tell(trial, state=studies.State.FAIL)
        return None
    if studies.losses_before(study, trial.number) >= ATTEMPTS:
        return _failed(study, trial, Ended(method, place, FAILED, cause="its process ended, repeatedly"))
    try:
        value = _value(tuning, method, parts, trial, place)
    except studies.Pruned:
        study.tell(trial, state=studies.State.PRUNED)
        return Ended(method, place, PRUNED)
    except Exception as error:
        if isinstance(error, NoSpaceError) or no_space(error, tuning.database) is not None:
            raise
        known = machine_limit(error) or error
        cause = str(known) if isinstance(known, EquipoiseError) else f"{type(error).__name__}: {error}"
        ended = Ended(method, place, FAILED, cause=" ".join(cause.split()))
        return _failed(study, trial, ended, diverged=isinstance(error, TrainingError))
    study.tell(trial, value)
    return Ended(method, place, FINISHED, value)


def _failed(study: optuna.Study, trial: optuna.Trial, ended: Ended, *, diverged: bool = False) -> Ended:
    """Record a failed trial; one that diverged is pruned to Optuna, whose sampler then avoids it."""
    trial.set_user_attr(studies.CAUSE, ended.cause)
    study.tell(trial, state=studies.State.PRUNED if diverged else studies.State.FAIL)
    return ended


def _value(
    tuning: Tuning, method: str, parts: Mapping[str, TunedMethod], trial: optuna.Trial, place: int
) -> float:
    """Return the validation figure of a trial, the mean over its seeds."""
    values = studies.suggest(trial, tuning.space(method))
    within, found = tuning.folder / WORK, list[float]()
    for seed in tuning.seeds:
        folder = within / f"{run_name(method, seed)}-trial{place}"
        runs = {name: _run_of_part(tuning, name, part, seed) for name, part in parts.items()}
        settings = tuning.run_settings(method, values, seed)
        try:
            found.append(_trained(tuning, settings, runs, folder, trial, found))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return mean(found)


def _run_of_part(tuning: Tuning, name: str, part: TunedMethod, seed: int) -> Settings:
    if part.best is None:
        raise TrainingError(f"no trial of {name} has finished, which it builds on.")
    return tuning.run_settings(name, {**part.chosen, **part.options}, seed)


def _trained(
    tuning: Tuning,
    settings: Settings,
    parts: Mapping[str, Settings],
    folder: Path,
    trial: optuna.Trial,
    before: list[float],
) -> float:
    """Train one run, and return its validation figure at the epoch whose weights are kept."""
    best: list[float] = []
    last = len(tuning.seeds) * settings.budget.epochs - 1

    def report(epoch: int, scores: dict[str, float]) -> None:
        figure = scores[tuning.figure]
        if not best or tuning.better(figure, best[0]):
            best[:] = [figure]
        step = len(before) * settings.budget.epochs + epoch
        trial.report(mean([*before, *best]), step)
        if step < last and trial.should_prune():
            raise studies.Pruned

    arguments: dict[str, Any] = {"parts_folder": tuning.folder / WORK / "parts", "part_settings": parts}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EquipoiseWarning)  # the tuning warned once, before the first trial
        with prepared(
            settings, folder, overwrite=True, on_epoch=report, closed_test=True, **arguments
        ) as found:
            assert found is not None  # its folder was new
            found.start()
            with isolated_rng():
                found.training.fit()
            value = float(found.training.best["validation"][tuning.figure])
    if not math.isfinite(value):
        raise TrainingError(f"the validation {tuning.figure} is {value}.")
    return value
