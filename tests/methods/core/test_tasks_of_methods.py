"""Every method on classification and regression: it trains, or refuses before training."""

from __future__ import annotations

import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import equipoise as eq
import other_tasks
from equipoise.methods import METHODS
from equipoise.tasks import EVERY_TASK, TASKS
from equipoise.training.finished import FitResult
from equipoise.training.fit import run
from equipoise.training.settings import Settings
from equipoise.types import EquipoiseWarning, UsageError
from hand_run import same

KINDS = ("multilabel", "regression")
IMAGES: dict[str, tuple[int, ...]] = {"audio": (1, 8, 8), "video": (1, 8, 8)}
GIVEN: dict[str, dict[str, Any]] = {
    "diagnose-relearn": {"epochs": [0], "strength": "fixed", "lam": 0.3},
    "fixed-modulation": {"factors": {"video": 0.5}},
    "gblend": {"super_epoch": 1},
    "greedy": {"start_epoch": 0, "eps": 0.0},
    "inforeg": {"loss": "joint+unimodal"},
}
"""Options without which a method has no effect in two epochs, or that it requires."""

NAMED = ["unimodal:video" if name == "unimodal" else name for name in METHODS]
LIKE_JOINT = {"joint", "unimodal", "ensemble"}

ALWAYS = {"joint", "unimodal", "ensemble", "multi-loss", "diagnose-relearn", "fixed-modulation"}
ALWAYS |= {"pretrain-frozen", "pretrain-finetune", "dgl", "gblend", "inforeg", "mmpareto", "umt"}
ALWAYS |= {"diagnose-relearn-plus", "short-ensemble"}
"""Methods that use only losses, gradients and features, and no class probabilities."""

NEVER = {"ogm", "ogm-ge", "opm", "pmr", "mla", "cml", "g2d", "mbsd", "reconboost", "aug", "lfm", "iprm"}
"""Methods that use the probability of the true class, or compare distributions over classes."""


def tasks_of(method: str) -> frozenset[str]:
    return METHODS[method.partition(":")[0]].requires.tasks


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@cache
def dataset(shared: Path, task: str, kind: str) -> str:
    shapes = IMAGES if kind == "images" else other_tasks.SHAPES
    return str(other_tasks.write(shared / f"{task}-{kind}", task, shapes, count=60).path)


def train(shared: Path, method: str, task: str, folder: Path) -> FitResult:
    images = method == "greedy"  # it needs gates between the stages of convolutions
    settings = Settings.from_options(
        dataset(shared, task, "images" if images else "vectors"),
        method=method,
        method_options=GIVEN.get(method, {}),
        encoder="cnn" if images else "mlp",
        encoder_options=dict.fromkeys(
            other_tasks.SHAPES, {"channels": [4, 6]} if images else {"hidden": [6]}
        ),
        fusion="mmtm" if images else "concat",
        epochs=2,
        batch_size=12,
        lr=0.01,
        diagnose_every=0,
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EquipoiseWarning)  # two epochs are too few for many methods
        return run(settings, folder, parts_folder=shared / f"parts-{task}")


@cache
def of_joint(shared: Path, task: str) -> dict[str, torch.Tensor]:
    return dict(train(shared, "joint", task, shared / f"joint-{task}").model.state_dict())


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("method", NAMED)
def test_it_trains_or_is_refused_before_training(
    method: str, task: str, shared: Path, tmp_path: Path
) -> None:
    if task not in tasks_of(method):
        with pytest.raises(
            UsageError, match=rf"'{method}'.*{task}; choose .*diagnose-relearn.*joint"
        ) as caught:
            train(shared, method, task, tmp_path / "run")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run" / "metrics.jsonl").exists()
        return
    result = train(shared, method, task, tmp_path / "run")
    assert all(torch.tensor(value).isfinite() for value in result.test.values())
    # Methods may wrap the model, also several times.
    weights = {re.sub(r"^(inner\.)+", "", name): value for name, value in result.model.state_dict().items()}
    assert all(value.isfinite().all() for value in weights.values())
    assert set(result.test) == {"loss", *TASKS[task].figures}
    if method.partition(":")[0] not in LIKE_JOINT and method != "greedy":
        joint = of_joint(shared, task)
        common = {name for name in joint if name in weights and joint[name].shape == weights[name].shape}
        assert common
        assert not same({n: joint[n] for n in common}, {n: weights[n] for n in common})


def test_supported_tasks_follow_from_the_formula() -> None:
    assert {name for name in METHODS if tasks_of(name) == EVERY_TASK} >= ALWAYS
    assert {name for name in NEVER if tasks_of(name) != {"classification"}} == set()
    assert all("classification" in tasks_of(name) for name in METHODS)


@pytest.mark.parametrize("task", KINDS)
def test_the_list_of_methods_shows_supported_tasks(task: str) -> None:
    frame = eq.list_methods().to_frame()
    listed = {row["name"] for row in frame.reset_index().to_dict("records") if task in row["tasks"]}
    assert listed == {name for name in METHODS if task in tasks_of(name)}
