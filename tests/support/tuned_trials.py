"""The trials of a tuning, read from its database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna

QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 32, "workers": 1}


def trials_in(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the trials of each method: state, values, and the figures reported on the way."""
    found = {}
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'trials.db'}")
    for summary in optuna.get_all_study_summaries(storage):
        study = optuna.load_study(study_name=summary.study_name, storage=storage)
        found[summary.study_name.split(" ")[-1]] = [
            (trial.state.name, trial.params, trial.value, trial.intermediate_values)
            for trial in study.trials
            if trial.state.name != "FAIL" or "cause" in trial.user_attrs
        ]
    return found
