"""Examine a run, a model, or features in a file: every measurement of a diagnosis, and the verdicts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray
from torch import nn

from equipoise.diagnosis import Diagnosis, DiagnosisOptions, separability
from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.contribution.of_features import contribution_of_features
from equipoise.diagnosis.contribution.of_model import contribution
from equipoise.diagnosis.contribution.refits import refits_of
from equipoise.diagnosis.diagnose import options_for
from equipoise.diagnosis.estimate import diagnose_with
from equipoise.diagnosis.features.arrays import is_continuous, kind_of
from equipoise.diagnosis.features.projections import KINDS, Projection, project
from equipoise.diagnosis.features.reading import BatchReader
from equipoise.diagnosis.verdict.verdict import verdicts
from equipoise.experiments.examine.contribution_of_run import contribution_of_run
from equipoise.experiments.examine.encoder_quality import EncoderQuality, encoder_quality
from equipoise.experiments.examine.examination import Examination
from equipoise.experiments.examine.run_data import SplitFeatures, collected, open_run, run_features
from equipoise.experiments.examine.saved_features import SavedFeatures
from equipoise.keywords import DiagnosisKeywords
from equipoise.pooling import Pool
from equipoise.randomness import isolated_rng
from equipoise.tasks import MULTILABEL
from equipoise.threads import map_on_single_threads, one_thread
from equipoise.training.measuring.floor import floor_leads, floor_scores
from equipoise.training.record.record import RunRecord
from equipoise.types import UsageError

BINS = 4
"""Quantiles by which the pictures colour a continuous target."""
PAPER_SAMPLES = 10_000
"""Samples up to which the paper's estimate is measured in addition to the requested one."""


def examine_run(
    run_dir: str | os.PathLike[str],
    *,
    preset: str = "robust",
    split: str = "validation",
    quality: bool = False,
    pictures: bool = True,
    **options: Unpack[DiagnosisKeywords],
) -> Examination:
    """Examine the model of a run on its own data: train and validation only.

    Args:
        run_dir: folder of a finished run.
        preset: choices by which the learning state is measured: `robust` or `paper`.
        split: on which contributions are measured: `validation`, or at the very end `test`.
        quality: whether to train new classifiers on the encoders, frozen and fine-tuned, and each modality
            alone (Wei et al., ECCV 2024, Fig. 1b and c); takes about as long as the run for each modality.
        pictures: whether to project the features onto the plane.
        **options: changes to the preset, see `DiagnosisOptions`.

    Raises:
        RunFolderError: there is no finished run, or the data have changed since.
        DataError, UnknownNameError: the run's data are no longer there; no such option.
    """
    DiagnosisOptions.check_call(examine_run, preset, options)
    result, _, data = open_run(run_dir)
    refuse_labels(data.train_samples.target.numpy())
    with one_thread():
        inputs = floor_scores(result.summary, data)
        features = run_features(result.model, data)
    found = _measured(
        str(run_dir),
        features,
        lambda: contribution_of_run(run_dir, split),
        preset,
        options,
        quality=encoder_quality(run_dir) if quality else None,
        inputs=inputs,
        leads=floor_leads(result.summary),
        classes=tuple(data.classes),
        pictures=pictures,
    )
    return replace(
        found,
        facts=_facts(result.summary),
        settings=RunRecord(Path(run_dir)).options(),
        result=result.summary,
    )


def examine_features(
    file: str | os.PathLike[str],
    *,
    preset: str = "robust",
    pictures: bool = True,
    **options: Unpack[DiagnosisKeywords],
) -> Examination:
    """Examine features that were saved to an `.npz` file.

    The file holds, for each modality NAME, `train_NAME [N, d]` and `val_NAME [N_val, d]`, and the classes
    `train_labels [N]` and `val_labels [N_val]`, or a continuous target under the same keys; `classes [C]`,
    the names of the classes 0 to C - 1, is optional. There is no model of all modalities, so contributions
    are those to a linear head.

    Raises:
        DataError: the file cannot be read, lacks an array or holds one too many, or the arrays do not fit.
    """
    DiagnosisOptions.check_call(examine_features, preset, options)
    arrays = SavedFeatures(file)
    features = arrays.features()
    y, y_val = features.y, features.y_val
    names = arrays.class_names()

    def contributed() -> Contributions:
        found = contribution_of_features(*features)
        if names is None or found.classes is None:
            return found
        return replace(found, classes=tuple(names[int(float(value))] for value in found.classes))

    found = _measured(
        str(file),
        features,
        contributed,
        preset,
        options,
        classes=names,
        pictures=pictures,
    )
    sizes = f"{len(y):,} train, {len(y_val):,} validation samples"
    kind = "continuous target" if is_continuous(y, y_val) else f"{len(np.unique(y))} classes"
    return replace(found, through="linear head", facts=[sizes, kind])


def examine_model(
    encoders: Mapping[str, nn.Module],
    model: nn.Module,
    train_loader: Iterable[Any],
    val_loader: Iterable[Any],
    *,
    reader: BatchReader | None = None,
    pool: Pool | Mapping[str, Pool] | None = None,
    classes: Sequence[str] | None = None,
    preset: str = "robust",
    pictures: bool = True,
    name: str | None = None,
    **options: Unpack[DiagnosisKeywords],
) -> Examination:
    """Examine any model in plain PyTorch; it is left as it was.

    Args:
        encoders: modality name to a module inside `model`.
        model: the whole model; its predictions are logits `[N, C]`, one logit or probability for two classes,
            or numbers for a continuous target.
        train_loader: iterable of the training batches, in one order.
        val_loader: iterable of the validation batches, in one order.
        reader: how batches are read, where the default does not fit.
        pool: from an encoder's output to `[B, d]`, see `collect_features`.
        classes: names of the classes.
        preset: see `examine_run`.
        pictures: see `examine_run`.
        name: what the report calls the model; by default its class.
        **options: changes to the preset, see `DiagnosisOptions`.

    Raises:
        ModelError, DataError, UsageError: handles, batches or predictions do not fit.
    """
    DiagnosisOptions.check_call(examine_model, preset, options)
    features = collected(encoders, model, train_loader, val_loader, reader=reader, pool=pool)
    named = tuple(classes) if classes is not None else None

    def contributed() -> Contributions:
        own = contribution(model, train_loader, val_loader, encoders, reader=reader, classes=named)
        return refits_of(*features).into(own)

    source = name or type(model).__name__
    found = _measured(source, features, contributed, preset, options, classes=named, pictures=pictures)
    sizes = f"{len(features.y):,} train, {len(features.y_val):,} validation samples"
    return replace(found, facts=[sizes])


def _measured(
    source: str,
    features: SplitFeatures,
    contributed: Callable[[], Contributions],
    preset: str,
    options: Mapping[str, Any],
    *,
    quality: EncoderQuality | None = None,
    inputs: Mapping[str, float] | None = None,
    leads: Mapping[str, tuple[float, float]] | None = None,
    classes: Sequence[str] | None = None,
    pictures: bool,
) -> Examination:
    """Measure everything that features of both splits and their contributions show."""
    y, y_val = features.y, features.y_val
    refuse_labels(y, y_val)

    # What data may be like concerns every measure; the other options are of the learning state alone.
    every = {name: value for name, value in options.items() if name == "missing_classes"}

    def by_preset(name: str) -> Diagnosis:
        own = options_for(name, every, y, y_val)
        return learning if learning.options == own else diagnose_with(own, *features)

    learning = diagnose_with(options_for(preset, options, y, y_val), *features)
    measures = separability(*features, **every)
    contributions = contributed()
    # The paper has no continuous target, and its ten clusterings take long on many samples.
    measurable = not is_continuous(y, y_val) and len(y) + len(y_val) <= PAPER_SAMPLES
    return Examination(
        source=source,
        learning=learning,
        paper=by_preset("paper") if measurable else None,
        measures=measures,
        contributions=contributions,
        # The thresholds of the verdicts were set for this preset, whatever is shown.
        verdicts=verdicts(by_preset("robust"), contributions, quality, inputs, leads),
        quality=quality,
        inputs=inputs,
        projections=_pictures(features, classes) if pictures else (),
    )


def refuse_labels(*targets: NDArray[Any]) -> None:
    """Raise a `UsageError` for a table of labels, for which verdicts and contributions are not defined."""
    if kind_of(*targets) == "labels":
        raise UsageError(
            "verdicts and contributions are those of one class or number a sample, and these are several "
            "labels; equipoise.diagnose and equipoise.diagnose_run measure their learning state."
        )


def _pictures(features: SplitFeatures, classes: Sequence[str] | None) -> list[Projection]:
    train, y, val, y_val = features
    if is_continuous(y, y_val):
        y, y_val, classes = _quantiles(y, y_val)

    def projected(name: str) -> list[Projection]:
        return [
            project(train[name], y, val[name], y_val, kind, modality=name, classes=classes) for kind in KINDS
        ]

    with isolated_rng():  # otherwise each of two threads would restore the state that the other one changed
        return list(chain.from_iterable(map_on_single_threads(projected, list(train), parallel=True)))


def _quantiles(
    y: NDArray[Any], y_val: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Cut a continuous target at the quantiles of the training split, and name the parts."""
    edges = np.unique(np.quantile(y, np.linspace(0, 1, BINS + 1)[1:-1]))
    between = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    parts = [np.searchsorted(edges, values, side="left").astype(np.int64) for values in (y, y_val)]
    return parts[0], parts[1], (f"up to {edges[0]:.3g}", *between, f"above {edges[-1]:.3g}")


def _facts(result: Mapping[str, Any]) -> list[str]:
    kind = "labels" if result.get("task") == MULTILABEL.name else "classes"
    sizes = ", ".join(f"{count:,} {split}" for split, count in result["split_sizes"].items())
    return [
        f"{result['method']} on {result['dataset']}",
        f"seed {result['seed']}",
        f"model {result['model']}",
        f"weights of epoch {result['best_epoch']}",
        f"{sizes} samples",
        f"{len(result['classes'])} {kind}" if result["classes"] else "continuous target",
    ]
