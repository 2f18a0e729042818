"""Classification by labels and regression: figures, units, the kept epoch, resuming, strength 0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, mean_absolute_error, r2_score

import equipoise as eq
import other_tasks
from equipoise.tasks import TASKS
from equipoise.training.finished import FitResult, load_run
from equipoise.training.record.predictions import confusion, read_predictions
from equipoise.types import UsageError
from hand_run import same
from interrupted import fit_with_and_without_break

KINDS = ("multilabel", "regression")
QUICK: dict[str, Any] = {"epochs": 4, "batch_size": 16, "lr": 0.01, "device": "cpu", "diagnose_every": 0}
RELEARN: dict[str, Any] = {"epochs": [1], "strength": "fixed", "lam": 0.3}
LEARNT = {"multilabel": 0.75, "regression": 0.6}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("tasks")
    return {task: other_tasks.write(base / task, task).path for task in KINDS}


@pytest.fixture(scope="module", params=KINDS)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fitted(task: str, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    out = tmp_path_factory.mktemp("run") / "run"
    return eq.fit(folders[task], "joint", out=out, **(QUICK | {"epochs": 12, "diagnose_every": 6}))


def by_hand(task: str, run_dir: Path, split: str) -> dict[str, float]:
    """Compute the figures of a split from the predictions on disk."""
    held = read_predictions(run_dir)[split]  # type: ignore[index]
    y, said, p = held.target, held.predicted, held.probability
    if task == "regression":
        error = said - y
        return {
            "r2": r2_score(y, said),
            "pearson": float(np.corrcoef(y, said)[0, 1]),
            "mae": mean_absolute_error(y, said),
            "rmse": float(np.sqrt((error**2).mean())),
            "loss": float((error**2).mean()) / other_tasks.DEVIATION**2,
        }
    assert (said == (p >= 0.5)).all()
    log_likelihood = np.where(y == 1, np.log(p), np.log(1 - p))
    return {
        "map": average_precision_score(y, p, average="macro"),
        "macro_f1": f1_score(y, said, average="macro", zero_division=0),
        "micro_f1": f1_score(y, said, average="micro", zero_division=0),
        "loss": -float(log_likelihood.mean()),
    }


def test_figures_are_computed_from_the_predictions(task: str, fitted: FitResult) -> None:
    for split, scores in (("val", fitted.validation), ("test", fitted.test)):
        expected = by_hand(task, fitted.run_dir, split)
        assert set(scores) == set(expected) == {"loss", *TASKS[task].figures}
        if task == "regression":  # standardised with the training split's deviation, not the true one
            scale = fitted.summary["target_scale"][1]
            expected["loss"] *= (other_tasks.DEVIATION / scale) ** 2
        assert scores == pytest.approx(expected, rel=2e-5)


def test_it_learns(task: str, fitted: FitResult) -> None:
    main = TASKS[task].main
    assert fitted.test[main] > LEARNT[task]
    assert all(score > 0.5 for score in fitted.summary["probes"].values())
    assert fitted.summary["task"] == fitted.model.task == task
    assert fitted.model.num_outputs == (3 if task == "multilabel" else 1)


def test_numbers_are_in_the_units_of_the_target(folders: dict[str, Path], tmp_path: Path) -> None:
    result = eq.fit(folders["regression"], out=tmp_path / "run", **QUICK)
    dataset = eq.data.open_dataset(folders["regression"])
    held = read_predictions(result.run_dir)["test"]  # type: ignore[index]
    assert held.target == pytest.approx(dataset.target[held.index], rel=1e-6)
    rows = read_predictions(result.run_dir)["val"].index  # type: ignore[index]
    train = np.setdiff1d(np.arange(len(dataset)), np.concatenate([rows, held.index]))
    mean, deviation = result.summary["target_scale"]
    assert (mean, deviation) == pytest.approx((dataset.target[train].mean(), dataset.target[train].std()))


def test_the_kept_epoch_is_the_best_by_the_main_figure(task: str, fitted: FitResult) -> None:
    lines = (fitted.run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    epochs = [event for event in map(json.loads, lines) if event["event"] == "epoch"]
    # With few samples several epochs have equal figures; then the lower loss decides.
    ranks = [(event[f"val_{TASKS[task].main}"], -event["val_loss"]) for event in epochs]
    assert fitted.best_epoch == ranks.index(max(ranks))


def test_the_epoch_with_the_lowest_error_is_kept(folders: dict[str, Path], tmp_path: Path) -> None:
    result = eq.fit(folders["regression"], select="mae", out=tmp_path / "run", **QUICK)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    values = [e["val_mae"] for e in map(json.loads, lines) if e["event"] == "epoch"]
    assert result.best_epoch == int(np.argmin(values))


def test_a_figure_of_another_task_is_refused_before_training(
    task: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    wrong = {"multilabel": "rmse", "regression": "micro_f1"}[task]
    with pytest.raises(UsageError, match=f"{wrong}.*{TASKS[task].main}"):
        eq.fit(folders[task], select=wrong, out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_loaded_run_predicts_like_the_finished_run(task: str, fitted: FitResult) -> None:
    loaded = load_run(fitted.run_dir)
    assert loaded.model.task == task
    assert same(dict(loaded.model.state_dict()), dict(fitted.model.state_dict()))
    assert loaded.test == fitted.test


@pytest.mark.parametrize("method", ["joint", "diagnose-relearn", "multi-loss"])
def test_a_break_changes_nothing(method: str, task: str, folders: dict[str, Path], tmp_path: Path) -> None:
    options = {"method_options": RELEARN} if method == "diagnose-relearn" else {}
    fit_with_and_without_break(folders[task], method, tmp_path / "run", killed_after=3, **QUICK, **options)


def test_strength_zero_is_joint_training(task: str, folders: dict[str, Path], tmp_path: Path) -> None:
    joint = eq.fit(folders[task], out=tmp_path / "joint", **(QUICK | {"diagnose_every": 3}))
    off, on = (
        eq.fit(
            folders[task],
            "diagnose-relearn",
            method_options=RELEARN | {"lam": lam},
            out=tmp_path / f"lam{lam}",
            **QUICK,
        )
        for lam in (0.0, 0.3)
    )
    assert same(dict(joint.model.state_dict()), dict(off.model.state_dict()))
    assert joint.test == off.test
    assert not same(dict(joint.model.state_dict()), dict(on.model.state_dict()))


def test_diagnoses_use_a_measure_of_the_task(task: str, fitted: FitResult) -> None:
    measure = {"multilabel": "linear-map", "regression": "ridge-r2"}[task]
    assert {fitted.diagnoses[-1][m].metric for m in other_tasks.SHAPES} == {measure}
    assert measure in str(fitted.diagnoses[-1])
    assert "purity" not in str(fitted.diagnoses[-1])


def test_options_for_classes_are_refused(task: str, fitted: FitResult) -> None:
    with pytest.raises(UsageError, match=task):
        confusion(fitted.run_dir)


def test_a_constant_prediction_has_no_correlation(folders: dict[str, Path], tmp_path: Path) -> None:
    result = eq.fit(folders["regression"], out=tmp_path / "run", **(QUICK | {"lr": 1e-30, "epochs": 1}))
    assert torch.tensor(list(result.test.values())).isfinite().all()
