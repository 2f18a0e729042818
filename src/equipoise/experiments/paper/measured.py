"""What figures show of finished runs beyond their records: new classifiers on encoders, and projections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from equipoise.diagnosis import purity
from equipoise.diagnosis.features.projections import Projection, project
from equipoise.experiments.compare.comparison import RUNS, Comparison
from equipoise.experiments.examine.encoder_quality import encoder_quality
from equipoise.experiments.examine.run_data import open_run, run_features
from equipoise.threads import one_thread
from equipoise.training.fit import run_name


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
    finished = comparison.results[comparison.results["status"] == "ok"]
    for row in finished.to_dict("records"):
        method, seed = str(row["method"]), int(row["seed"])
        if method.startswith("unimodal:"):
            continue
        found = encoder_quality(comparison.folder / RUNS / run_name(method, seed), fine_tune=False, test=True)
        for modality, state in found.items():
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
    """Project the features of the first run of each method, modality by modality."""
    seed, found = int(comparison.summary["seeds"][0]), []
    for method in comparison.summary["methods"]:
        result, _, data = open_run(comparison.folder / RUNS / run_name(method, seed))
        features, epoch = run_features(result.model, data), int(result.summary["best_epoch"])
        for name in result.model.modalities:
            train, val = features.train[name], features.val[name]
            shown = project(
                train, features.y, val, features.y_val, modality=name, classes=data.classes, max_samples=600
            )
            with one_thread():
                found.append(
                    Cloud(method, epoch, shown, purity(train, features.y), purity(val, features.y_val))
                )
    return found
