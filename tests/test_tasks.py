"""Losses of the tasks against their formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from equipoise.tasks import (
    CLASSIFICATION,
    FIGURES,
    MULTILABEL,
    REGRESSION,
    TASKS,
    task_named,
    task_of,
)
from equipoise.types import UnknownNameError

RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.normal(size=(11, 4))
CLASSES = RNG.integers(0, 4, size=11)
LABELS = RNG.integers(0, 2, size=(11, 4))
NUMBERS = RNG.normal(size=11)


def cross_entropy() -> np.ndarray:
    shifted = np.exp(LOGITS - LOGITS.max(1, keepdims=True))
    return -np.log((shifted / shifted.sum(1, keepdims=True))[np.arange(11), CLASSES])


def binary_cross_entropy() -> np.ndarray:
    p = 1 / (1 + np.exp(-LOGITS))
    return -(LABELS * np.log(p) + (1 - LABELS) * np.log(1 - p)).sum(1) / 4


def squared_error() -> np.ndarray:
    return (LOGITS[:, 0] - NUMBERS) ** 2


CASES = {
    "classification": (LOGITS, CLASSES, cross_entropy()),
    "multilabel": (LOGITS, LABELS, binary_cross_entropy()),
    "regression": (LOGITS[:, :1], NUMBERS, squared_error()),
}


@pytest.mark.parametrize("name", TASKS)
def test_losses_equal_their_formulas(name: str) -> None:
    output, target, expected = (torch.tensor(part) for part in CASES[name])
    task = task_named(name)
    assert task.losses(output, target).numpy() == pytest.approx(expected.numpy(), abs=1e-12)
    assert float(task.loss(output, target)) == pytest.approx(float(expected.mean()), abs=1e-12)
    assert task_of(target) is task


def test_the_classification_loss_equals_cross_entropy_bitwise() -> None:
    output, target = torch.tensor(LOGITS, dtype=torch.float32), torch.tensor(CLASSES)
    assert torch.equal(CLASSIFICATION.loss(output, target), F.cross_entropy(output, target))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_labels_may_be_of_any_type(kind: torch.dtype) -> None:
    output = torch.tensor(LOGITS, dtype=torch.float32)
    loss = MULTILABEL.loss(output, torch.tensor(LABELS).to(kind))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(binary_cross_entropy().mean()), abs=1e-6)


def test_regression_targets_may_have_shape_b_or_b_1() -> None:
    output, target = torch.tensor(LOGITS[:, :1]), torch.tensor(NUMBERS)
    assert torch.equal(REGRESSION.loss(output, target), REGRESSION.loss(output[:, 0], target))
    # [B, 1] minus [B] would be [B, B], whose mean is a number too.
    assert float(REGRESSION.loss(output, target)) == pytest.approx(float(squared_error().mean()))


@pytest.mark.parametrize("name", TASKS)
def test_a_higher_main_figure_is_better(name: str) -> None:
    task = TASKS[name]
    assert task.main not in task.errors
    assert task.errors <= set(task.figures) <= set(FIGURES)
    assert task.main_name == task.figures[task.main]


def test_an_unknown_task_is_refused_by_name() -> None:
    with pytest.raises(UnknownNameError, match="ranking"):
        task_named("ranking")
