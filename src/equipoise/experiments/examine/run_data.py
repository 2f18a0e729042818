"""A finished run together with the data it was trained on, and the features of its splits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import ArrayLike, NDArray
from torch import nn

from equipoise.data import RunData
from equipoise.diagnosis import collect_features
from equipoise.diagnosis.features.capture import encoders_of
from equipoise.models import BalancedModel
from equipoise.threads import cpu_threads
from equipoise.training.assembly import prepare_data
from equipoise.training.finished import FitResult, load_run
from equipoise.training.option_text import from_options
from equipoise.training.record import fingerprints
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Settings
from equipoise.types import RunFolderError


class SplitFeatures(NamedTuple):
    """Features `[N, d]` by modality and target `[N]` of the training split, and of the validation split."""

    train: Mapping[str, ArrayLike]
    y: NDArray[Any]
    val: Mapping[str, ArrayLike]
    y_val: NDArray[Any]


def collected(
    encoders: Mapping[str, nn.Module],
    model: nn.Module,
    train_loader: Iterable[Any],
    val_loader: Iterable[Any],
    **reading: Any,
) -> SplitFeatures:
    """Return the features of both splits; see `collect_features`."""
    train, val = (collect_features(encoders, model, split, **reading) for split in (train_loader, val_loader))
    return SplitFeatures(train.features, train.target.numpy(), val.features, val.target.numpy())


def run_features(model: BalancedModel, data: RunData) -> SplitFeatures:
    """Return the features of the model of a run."""
    with cpu_threads(model):
        return collected(encoders_of(model), model, data.train_eval, data.val)


def open_run(run_dir: str | os.PathLike[str]) -> tuple[FitResult, Settings, RunData]:
    """Read a finished run and its data.

    Raises:
        RunFolderError: there is no finished run, or the data have changed since.
        DataError, UnknownNameError: the run's data no longer exist.
    """
    result = load_run(run_dir)
    settings = from_options(RunRecord(Path(run_dir)).options())
    _, data = prepare_data(settings)
    found = fingerprints.of_data(data)
    if changed := [key for key, value in found.items() if result.summary[key] != value]:
        raise RunFolderError(
            f"the data of the run in {run_dir} have changed since it was made ({', '.join(changed)} differ); "
            "train again."
        )
    return result, settings, data
