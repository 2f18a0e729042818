"""What a finished run's model predicts of samples, as a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from equipoise.data import make_loader
from equipoise.data.format.folder import SPLIT_NAMES
from equipoise.data.prepare.engine import Observer
from equipoise.randomness import isolated_rng
from equipoise.scopes import evaluating
from equipoise.tasks import CLASSIFICATION, MULTILABEL
from equipoise.threads import cpu_threads
from equipoise.training.fabric import check_device, device_named
from equipoise.training.prediction.explained import (
    Explained,
    Value,
    check_partial,
    is_explicable,
    on_device,
)
from equipoise.training.prediction.matching import check_vocabulary
from equipoise.training.prediction.samples import Data, Samples, labels_in_words, samples_of
from equipoise.training.prediction.used_run import UsedRun
from equipoise.training.record.record import METRICS
from equipoise.training.settings import DEVICES
from equipoise.types import Batch, ModelError, UsageError, check_known, warn

PROBABILITY, CONTRIBUTION, NONE = "p:", "contribution:", ":none"
LIKELY: Final = 0.5
"""Probability from which a label is predicted where a sample may have several."""


def predict_of_run(
    run: UsedRun,
    data: Data | None = None,
    *,
    source: str | os.PathLike[str] | None = None,
    split: str | None = None,
    without: str | Sequence[str] = (),
    batch_size: int | None = None,
    device: str = "auto",
    workers: int = 1,
    observer: Observer | None = None,
) -> pd.DataFrame:
    """Predict samples; see `FitResult.predict`. `observer` receives the progress of reading raw files."""
    present = _checked(run, data, source, split, without, batch_size, workers)
    check_known("device", [device], DEVICES)
    check_device(device, "32-true")
    explaining = _explaining(run, present)
    reading = {"data": data, "source": source, "split": split, "workers": workers, "observer": observer}
    with samples_of(run, present, **reading) as samples:  # type: ignore[arg-type]
        check_vocabulary(run.model, samples.dataset)
        if samples.opens_test:
            _note_test(run)
        columns = _columns(run, samples, present, explaining, batch_size, device)
        table = pd.DataFrame({**_known(samples), **columns})
    table.attrs |= {"run": str(run.record.folder) if run.record else "", "lost": list(samples.lost)}
    return table


def _checked(
    run: UsedRun, data: Any, source: Any, split: Any, without: Any, batch_size: Any, workers: int
) -> list[str]:
    """Check the arguments, and return the modalities that are read."""
    if (data is None) == (source is None):
        raise UsageError(
            "expected either data (a prepared dataset, or arrays by modality) or source (raw files)."
        )
    for name, number in (("batch_size", batch_size), ("workers", workers)):
        if number is not None and number < 1:
            raise UsageError(f"{name} is {number}; expected at least 1.")
    if split is not None:
        check_known("split", [split], SPLIT_NAMES)
    left_out = [without] if isinstance(without, str) else list(without)
    check_known("modality of the model", left_out, run.model.modalities)
    present = [m for m in run.model.modalities if m not in left_out]
    if not present:
        raise UsageError(f"without names all modalities of the model ({', '.join(left_out)}); keep one.")
    return present


def _explaining(run: UsedRun, present: Sequence[str]) -> bool:
    """Return whether contributions are measured; check that absent modalities can be replaced.

    Raises:
        ModelError: they cannot.
    """
    model, inputs = run.model, run.inputs
    complete = len(present) == len(model.modalities)
    if complete and run.task is MULTILABEL:
        return False
    explicable = bool(inputs.means) and is_explicable(model, inputs.specs)
    if explicable:
        if not complete:
            check_partial(model, inputs.specs, present)
        return run.task is not MULTILABEL
    why = "the mean features of its encoders are unknown"
    if inputs.means:
        why = f"{run.settings.method!r} predicts by more than the features of its encoders"
    if not complete:
        raise ModelError(f"no modality can be left out of this model: {why}; give all of them.")
    warn(f"the contributions of the modalities are not known: {why}.")
    return False


def _note_test(run: UsedRun) -> None:
    if run.record is None:
        warn(
            "these samples are the test split that the model was measured on after its training; a decision "
            "that is based on them needs other samples to be tested on."
        )
        return
    run.record.append(METRICS, {"event": "diagnosis-test", "why": "predict"})


def _known(samples: Samples) -> dict[str, Any]:
    """Return the columns of what is known of the samples without a model."""
    known = {"id": samples.ids, "split": samples.split, "target": samples.target}
    return {name: values for name, values in known.items() if values is not None}


def _columns(
    run: UsedRun,
    samples: Samples,
    present: Sequence[str],
    explaining: bool,
    batch_size: int | None,
    device: str,
) -> dict[str, Any]:
    """Return the columns of the predictions, computed batch by batch as in evaluation."""
    model, settings = run.model, run.settings
    explained, place = Explained(model, run.inputs.means, present), device_named(device)
    loader = make_loader(samples.normalized(run), batch_size or settings.budget.batch_size)
    columns_of: Callable[[UsedRun, Explained, Batch], dict[str, Any]] = _of_labels
    if run.task is not MULTILABEL:
        of_one = _of_classes if run.task is CLASSIFICATION else _of_numbers
        columns_of = partial(of_one, explaining=explaining)
    parts = []
    algorithms = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with (
        isolated_rng(),
        evaluating(model),
        on_device(model, place),
        cpu_threads(model, settings.threads),
        algorithms,
    ):
        for batch in loader:
            parts.append(columns_of(run, explained, batch.to(place)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _of_classes(run: UsedRun, explained: Explained, batch: Batch, *, explaining: bool) -> dict[str, Any]:
    def value_of(logits: Tensor) -> Value:
        predicted = logits.argmax(dim=1, keepdim=True)
        return lambda u: u.softmax(dim=1).gather(1, predicted)[:, 0]

    logits, shares = _explained(explained, batch, value_of, explaining, "confidence")
    predicted = logits.argmax(dim=1).cpu().numpy()
    probability = logits.softmax(dim=1).cpu().numpy()
    names = run.summary["classes"]
    return {
        "predicted": np.array(names, dtype=object)[predicted],
        "confidence": probability[np.arange(len(predicted)), predicted],
        **{f"{PROBABILITY}{name}": probability[:, place] for place, name in enumerate(names)},
        **shares,
    }


def _of_numbers(run: UsedRun, explained: Explained, batch: Batch, *, explaining: bool) -> dict[str, Any]:
    mean, deviation = run.target_scale

    def in_units(logits: Tensor) -> Tensor:
        # On the CPU, as not every device has double precision.
        return logits.reshape(len(logits)).cpu().double() * deviation + mean

    logits, shares = _explained(explained, batch, lambda _: in_units, explaining, "predicted")
    return {"predicted": in_units(logits).numpy(), **shares}


def _of_labels(run: UsedRun, explained: Explained, batch: Batch) -> dict[str, Any]:
    probability = explained.predict(batch).sigmoid().cpu().numpy()
    names, present = run.summary["classes"], (probability >= LIKELY).astype(int).tolist()
    return {
        "predicted": np.array([labels_in_words(names, row) for row in present], dtype=object),
        **{f"{PROBABILITY}{name}": probability[:, place] for place, name in enumerate(names)},
    }


def _explained(
    explained: Explained,
    batch: Batch,
    value_of: Callable[[Tensor], Value],
    explaining: bool,
    of: str,
) -> tuple[Tensor, dict[str, Any]]:
    """Return the logits of a batch, and the columns of the contributions to the column `of`."""
    if not explaining:
        return explained.predict(batch), {}
    found = explained.explain(batch, value_of)
    shares = {f"{CONTRIBUTION}{m}": share.cpu().numpy() for m, share in found.contributions.items()}
    return found.logits, {**shares, f"{of}{NONE}": found.without_any.cpu().numpy()}
