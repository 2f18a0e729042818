"""The measures for several labels a sample, against separate definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from equipoise.diagnosis import diagnose, separability
from equipoise.diagnosis.measures.prediction import mean_average_precision
from equipoise.diagnosis.options import LABELS, METRICS
from equipoise.types import EquipoiseError


@pytest.fixture
def splits():
    """Features of which the first two columns determine two of three labels, and the labels."""

    def draw(n: int, seed: int):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, 5))
        y = (x[:, :3] + rng.normal(size=(n, 3)) * (0.3, 0.8, 3) > 0.2).astype(int)
        return x, y

    return *draw(90, 1), *draw(40, 2)


def average_precision(scores, carried):
    """Return the mean, over the samples with the label, of the precision at their score."""
    precisions = [carried[scores >= scores[i]].mean() for i in np.flatnonzero(carried)]
    return float(np.mean(precisions))


def mean_over_labels(scores, y):
    return float(
        np.mean([average_precision(scores[:, c], y[:, c]) for c in range(y.shape[1]) if y[:, c].any()])
    )


def ridge(x, y, rows):
    """Solve `(Xc'Xc + I) W = Xc'Yc` and predict."""
    centred = x - x.mean(0)
    weights = np.linalg.solve(centred.T @ centred + np.eye(x.shape[1]), centred.T @ (y - y.mean(0)))
    return (rows - x.mean(0)) @ weights + y.mean(0)


def neighbours(x, y, rows, *, itself: bool):
    distances = np.linalg.norm(rows[:, None] - x[None], axis=2)
    if itself:
        np.fill_diagonal(distances, np.inf)
    return np.stack([y[np.argsort(row, kind="stable")[:5]].mean(0) for row in distances])


def measured(splits, **options):
    x, y, x_val, y_val = splits
    state = diagnose({"m": x}, y, {"m": x_val}, y_val, scaler="none", **options)["m"]
    return state.train_score, state.val_score


@pytest.mark.parametrize("decimals", [0, 1, 9])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (40, 5)])
def test_mean_average_precision(shape, decimals) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, y = rng.normal(size=shape).round(decimals), (rng.random(shape) < rng.random()).astype(int)
        found, carried = mean_average_precision(scores, y), y.any(0)
        if not carried.any():
            assert found == 0
            continue
        assert found == pytest.approx(mean_over_labels(scores, y), abs=1e-12)
        library = average_precision_score(y[:, carried], scores[:, carried], average="macro")
        assert found == pytest.approx(library, abs=1e-12)
    assert np.isnan(mean_average_precision(np.full(shape, np.nan), np.ones(shape, int)))


@pytest.mark.parametrize("assign", ["refit", "transfer"])
def test_linear_map(splits, assign) -> None:
    x, y, x_val, y_val = splits
    fitted = (x_val, y_val) if assign == "refit" else (x, y)
    expected = (
        mean_over_labels(ridge(x, y, x), y),
        mean_over_labels(ridge(*fitted, x_val), y_val),
    )
    assert measured(splits, metric="linear-map", assign=assign) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("assign", ["refit", "transfer"])
def test_knn_map(splits, assign) -> None:
    x, y, x_val, y_val = splits
    fitted = (x_val, y_val) if assign == "refit" else (x, y)
    expected = (
        mean_over_labels(neighbours(x, y, x, itself=True), y),
        mean_over_labels(neighbours(*fitted, x_val, itself=assign == "refit"), y_val),
    )
    assert measured(splits, metric="knn-map", assign=assign) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", sorted(LABELS))
def test_cross_fitting_removes_the_effect_of_memorising(metric, splits) -> None:
    _, y, _, y_val = splits
    rng = np.random.default_rng(0)
    noise = {"m": rng.normal(size=(90, 60))}, {"m": rng.normal(size=(40, 60))}
    state = diagnose(noise[0], y, noise[1], y_val, metric=metric, assign="cross-fit")["m"]
    chance = float(y.mean(0).mean())  # the precision of a random order
    assert state.train_score == pytest.approx(chance, abs=0.12)
    assert state.val_score == pytest.approx(float(y_val.mean(0).mean()), abs=0.12)


def test_labels_are_measured_by_default(splits) -> None:
    x, y, x_val, y_val = splits
    found = diagnose({"m": x}, torch.tensor(y).bool(), {"m": torch.tensor(x_val)}, y_val.astype(float))
    assert found["m"].metric in LABELS
    assert "linear-map" in str(found)
    every = separability({"m": x}, y, {"m": x_val}, y_val)
    assert len(every) == len(LABELS)


@pytest.mark.parametrize("metric", sorted(set(METRICS) - LABELS))
def test_measures_of_classes_and_numbers_refuse_labels(metric, splits) -> None:
    with pytest.raises(EquipoiseError, match=r"label|target") as caught:
        measured(splits, metric=metric)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metric", sorted(LABELS))
def test_measures_of_labels_refuse_classes_and_other_numbers(metric, splits) -> None:
    x, y, x_val, y_val = splits
    for wrong in (y[:, 0], y * 2, y - 0.5):
        with pytest.raises(EquipoiseError, match="0 or 1"):
            measured((x, wrong, x_val, y_val), metric=metric)
