"""The plan of a tuning: what all its trials share."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from equipoise.experiments.compare.tuned import FREE, shared_options, with_values
from equipoise.experiments.tune.spaces import default_values, search_space, separated
from equipoise.methods.core.creation import options_for
from equipoise.methods.core.search import Range
from equipoise.training.record import fingerprints
from equipoise.training.settings import Settings

DATABASE: Final = "trials.db"
WORK: Final = "trials"
"""Folder of the runs of trials, which are removed when their figures are known."""


@dataclass(frozen=True)
class Tuning:
    """What a process needs for a trial.

    Attributes:
        folder: of the result.
        settings: what all methods share.
        options: options of methods that are set, by registered name.
        seeds: seeds of the runs of a trial.
        trials: number of trials of each method.
        storage: URL of the database of the trials.
        shared: whether other machines may work on the same trials.
        owner: the folder's name in the database.
        figure: validation figure that decides.
        less_is_better: whether it is an error or a loss.
        parts: method to the methods whose runs it builds on.
        data_fingerprint: of the dataset.
    """

    folder: Path
    settings: Settings
    options: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    trials: int
    storage: str
    shared: bool
    owner: str
    figure: str
    less_is_better: bool
    parts: Mapping[str, list[str]]
    data_fingerprint: str

    @property
    def database(self) -> Path:
        """The file of the trials, where they are not in a database of several machines."""
        return self.folder / DATABASE

    def fixed(self, method: str) -> dict[str, Any]:
        """Return the options of a method that are set, and not searched."""
        return options_for(method, self.options)

    def space(self, method: str) -> dict[str, Range]:
        """Return what is searched for a method."""
        return search_space(method, self.settings.budget, self.fixed(method))

    def defaults(self, method: str) -> dict[str, Any]:
        """Return the default of everything that is searched for a method."""
        return default_values(method, self.settings.budget, self.fixed(method))

    def run_settings(self, method: str, values: Mapping[str, Any], seed: int) -> Settings:
        """Return a run of a trial with these values."""
        chosen, options = separated(values)
        return with_values(self.settings.with_method(method, {**self.fixed(method), **options}, seed), chosen)

    def better(self, one: float, other: float) -> bool:
        """Return whether one figure is better than another."""
        return one < other if self.less_is_better else one > other

    def study_name(self, method: str) -> str:
        """Return the name of a method's trials in the database: another tuning has other names."""
        own = [
            self.data_fingerprint,
            {key: value for key, value in shared_options(self.settings).items() if key not in FREE},
            self.fixed(method),
            list(self.seeds),
            self.trials,
        ]
        return f"equipoise {fingerprints.of_text(json.dumps(own, sort_keys=True))} {method}"


def mean(values: list[float]) -> float:
    """Return the mean of figures."""
    return math.fsum(values) / len(values)
