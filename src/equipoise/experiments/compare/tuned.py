"""What `equipoise tune` found: the settings of each method, which a comparison takes from its folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd
import yaml

from equipoise.data import PreparedDataset, splits_of
from equipoise.files.untrusted import ABSENT, first_line, read_yaml
from equipoise.files.whole import write_atomically
from equipoise.training.option_text import to_keywords, to_options
from equipoise.training.record import fingerprints
from equipoise.training.record.record import MACHINE_ONLY
from equipoise.training.record.seals import opened, sealed
from equipoise.training.settings import Settings
from equipoise.typed_options import check_types
from equipoise.types import PathError, RunFolderError, UsageError

TUNED: Final = "tuned.yaml"
COMMON: Final = ("lr", "weight_decay")
"""Settings that are searched for every method."""
PER_METHOD: Final = frozenset({"method", "set", "seed"})
EDITED: Final = "Restore it from a copy, or write it again from its trials: equipoise tune --resume."
FREE: Final = MACHINE_ONLY | {"data", "diagnose_every", "trace"}
"""Settings in which a comparison may depart from the tuning; the data are checked by their fingerprints."""


@dataclass(frozen=True, kw_only=True)
class TunedMethod:
    """The trials of one method.

    Attributes:
        finished: number of trials that trained all epochs.
        pruned: number of those that were stopped early.
        failed: number of those that failed.
        default: validation figure with the defaults; None if that trial failed.
        best: validation figure of the winner, the best of the finished trials; None if there is none.
        trial: number of the winner; 0 are the defaults.
        chosen: the settings of the winner, those out of `COMMON`.
        options: its options of the method, also those that were set and not searched.
        searched: what was searched, with the ranges in words.
        causes: why trials failed, by their numbers.
    """

    finished: int = 0
    pruned: int = 0
    failed: int = 0
    default: float | None = None
    best: float | None = None
    trial: int | None = None
    chosen: dict[str, float] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    searched: dict[str, str] = field(default_factory=dict)
    causes: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The content of `tuned.yaml`.

    Attributes:
        folder: of the file.
        dataset: name of the dataset.
        data_fingerprint: of the dataset.
        split_fingerprint: of its splits.
        figure: validation figure that decided.
        trials: number of trials of each method.
        seeds: seeds of the runs of a trial.
        settings: what all trials shared, as options of `equipoise tune`.
        storage: URL of the database of the trials, without user and password; None for the file beside it.
        owner: the folder's name in the database.
        asked: the methods that were to be tuned, also those that train nothing. The methods on whose runs
            they build are tuned, too.
        methods: method to result, of those whose trials have all ended.
    """

    folder: Path
    dataset: str
    data_fingerprint: str
    split_fingerprint: str
    figure: str
    trials: int
    seeds: list[int]
    settings: dict[str, Any]
    storage: str | None = None
    owner: str = ""
    asked: list[str] = field(default_factory=list)
    methods: dict[str, TunedMethod] = field(default_factory=dict)

    def write(self) -> None:
        """Write the file."""
        values = asdict(self)
        del values["folder"]
        plain = yaml.safe_load(yaml.safe_dump(values, sort_keys=False))  # what a reader will see
        write_atomically(self.folder / TUNED, yaml.safe_dump(sealed(plain, {}), sort_keys=False))

    def keywords(self) -> dict[str, Any]:
        """Return the settings that all trials shared, as arguments of `Settings.from_options`."""
        return to_keywords(self.settings)

    def run_settings(self, settings: Settings, method: str, seed: int) -> Settings:
        """Return the run of a method with what was found for it; `settings` are what all methods share.

        Raises:
            UsageError: nothing was found for it.
        """
        own = self.methods.get(method)
        if own is None or own.best is None:
            raise UsageError(f"{self.folder} has no settings for {method!r}.")
        return with_values(settings.with_method(method, own.options, seed), own.chosen)

    def check_settings(self, settings: Settings) -> None:
        """Check that a comparison departs from the tuning in nothing that its results depend on.

        Raises:
            UsageError: it does.
        """
        own = shared_options(settings)
        differing = [
            f"{key} {own.get(key, 'not set')} (tuned with {self.settings.get(key, 'not set')})"
            for key in sorted({*own, *self.settings} - FREE)
            if own.get(key) != self.settings.get(key)
        ]
        if differing:
            raise UsageError(
                f"the settings are not those of the tuning in {self.folder}: {'; '.join(differing[:4])}"
                f"{' and more' if len(differing) > 4 else ''}; leave them out, or tune again."
            )

    def check_data(self, dataset: PreparedDataset, settings: Settings) -> None:
        """Check that data and splits are those of the tuning.

        Raises:
            UsageError: they are not.
        """
        found = {
            "data": (dataset.fingerprint, self.data_fingerprint),
            "splits": (splits_of(dataset, settings.splitting_seed).fingerprint, self.split_fingerprint),
        }
        if differing := [what for what, (own, tuned) in found.items() if own != tuned]:
            raise UsageError(
                f"{self.folder} was tuned on other data: {dataset.name!r} differs from {self.dataset!r} in "
                f"{' and '.join(differing)}; expected the data of the tuning, or tune on these."
            )

    def check_seeds(self, seeds: Iterable[int]) -> None:
        """Check that no seed of a comparison was used in the tuning.

        Raises:
            UsageError: one was.
        """
        if used := sorted(set(self.seeds).intersection(seeds)):
            raise UsageError(
                f"the methods were tuned with seed {', '.join(map(str, used))}; expected other seeds in the "
                "comparison."
            )

    def check_methods(self, training: Iterable[str]) -> None:
        """Check that there are settings for all methods that train something.

        Raises:
            UsageError: for some there are none.
        """
        held = {name for name, method in self.methods.items() if method.best is not None}
        if lacking := [name for name in training if name not in held]:
            raise UsageError(
                f"{self.folder} has no tuned settings for {', '.join(lacking)}; tune them too, by 'equipoise "
                f"tune --resume' with them among the methods, or leave them out (tuned: "
                f"{', '.join(sorted(held)) or 'none'})."
            )

    def summary(self, settings: Settings, methods: Iterable[str]) -> dict[str, Any]:
        """Return what the summary of a comparison of these methods says about the tuning.

        `budgets` are the fingerprints of the budgets with which the methods must have been run.
        """
        names = list(methods)
        runs = {
            name: self.run_settings(settings, name, 0) if name in self.methods else settings for name in names
        }
        return {
            "folder": str(self.folder),
            "trials": self.trials,
            "seeds": list(self.seeds),
            "figure": self.figure,
            "budgets": {name: fingerprints.of_budget(run.budget) for name, run in runs.items()},
            "methods": {name: asdict(self.methods[name]) for name in names if name in self.methods},
        }

    def table(self) -> pd.DataFrame:
        """Return one row for each method: trials, validation figures, and the settings of the winner."""
        rows = [
            {
                "method": name,
                **{key: getattr(own, key) for key in ("finished", "pruned", "failed", "default", "best")},
                **{key: own.chosen.get(key) for key in COMMON},
                "options": own.options,
            }
            for name, own in self.methods.items()
        ]
        table = pd.DataFrame(rows).set_index("method") if rows else pd.DataFrame()
        numbers = [column for column in ("default", "best", *COMMON) if column in table]
        return table.astype(dict.fromkeys(numbers, float))


def with_values(settings: Settings, chosen: Mapping[str, Any]) -> Settings:
    """Return settings with other values of `COMMON`."""
    return replace(settings, budget=replace(settings.budget, **chosen))


def shared_options(settings: Settings) -> dict[str, Any]:
    """Return settings as options in plain values, without those of a single run."""
    options = {key: value for key, value in to_options(settings).items() if key not in PER_METHOD}
    plain: dict[str, Any] = json.loads(json.dumps(options))  # a file has no tuples
    return plain


def read_tuned(folder: Path, *, resume: bool = False) -> Tuned:
    """Read what a tuning found.

    Args:
        folder: of the tuning.
        resume: accept a file that was edited, as its results are then written again from the trials.

    Raises:
        PathError: there is none.
        RunFolderError: the file is damaged, or was edited.
    """

    def refuse(found: str) -> RunFolderError:
        return RunFolderError(
            f"cannot read {folder / TUNED}: {found}; tune again, with --resume where the trials are still "
            "there."
        )

    try:
        values = read_yaml(folder / TUNED, refuse)
        if not resume:
            values, _ = opened(values, folder / TUNED, EDITED)
        own = {field.name for field in fields(Tuned)} - {"folder"}
        values = {key: value for key, value in values.items() if key in own}
        check_types(Tuned, {key: value for key, value in values.items() if key != "methods"})
        methods = {}
        for name, entry in values.pop("methods", {}).items():
            check_types(TunedMethod, entry)
            methods[str(name)] = TunedMethod(**entry)
        return Tuned(folder=folder.resolve(), methods=methods, **values)
    except ABSENT:
        raise PathError(
            f"{folder} holds no tuning: there is no {TUNED}; expected a folder written by 'equipoise tune'."
        ) from None
    except (AttributeError, TypeError, ValueError) as error:
        raise refuse(first_line(error)) from None
