"""What figures show of finished runs beyond their records: new classifiers on encoders, and projections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from equipoise.diagnosis import purity
from equipoise.diagnosis.features.projections import Projection, project
from equipoise.experiments.compare.comparison import Comparison
from equipoise.experiments.examine.encoder_quality import encoder_quality
from equipoise.experiments.examine.run_data import open_run, run_features
from equipoise.experiments.paper.runs import finished_runs
from equipoise.threads import one_thread


@dataclass(frozen=True)
class Quality:
    """Test accuracies over the seeds.

    Attributes:
        encoders: method to modality to the accuracies of a new classifier on the frozen encoder.
        alone: modality to those of the modality trained alone.
    """

    encoders: Mapping[str, Mapping[str, list[float]]]
    alone: Mapping[str, list[float]]


def quality_of(comparison: Comparison) -> Quality:
    """Train a new classifier on every encoder of every run of all modalities; see `encoder_quality`.

    The classifiers select their epoch on validation, and the test split decides nothing.
    """
    encoders: dict[str, dict[str, list[float]]] = {}
    alone: dict[str, dict[int, float]] = {}
    for method, seed, folder in finished_runs(comparison):
        if method.startswith("unimodal:"):
            continue
        for modality, state in encoder_quality(folder, fine_tune=False, test=True).items():
            assert state.test is not None
            encoders.setdefault(method, {}).setdefault(modality, []).append(state.test["probe"])
            alone.setdefault(modality, {})[seed] = state.test["alone"]
    return Quality(encoders, {modality: list(by_seed.values()) for modality, by_seed in alone.items()})


@dataclass(frozen=True)
class Cloud:
    """The features of one modality of a run in the plane, and their purity by the paper's estimate.

    `epoch` is the one whose weights the run kept.
    """

    method: str
    epoch: int
    projection: Projection
    train_purity: float
    val_purity: float


def clouds_of(comparison: Comparison) -> list[Cloud]:
    """Project the features of the run of each method with the first seed, modality by modality."""
    first, found = int(comparison.summary["seeds"][0]), []
    for method, seed, folder in finished_runs(comparison):
        if seed != first:
            continue
        result, _, data = open_run(folder)
        features, epoch = run_features(result.model, data), int(result.summary["best_epoch"])
        for name in result.model.modalities:
            train, val = features.train[name], features.val[name]
            shown = project(
                train, features.y, val, features.y_val, modality=name, classes=data.classes, max_samples=600
            )
            with one_thread():
                purities = purity(train, features.y), purity(val, features.y_val)
            found.append(Cloud(method, epoch, shown, *purities))
    return found
