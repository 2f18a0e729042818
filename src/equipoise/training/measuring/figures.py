"""The figures of each task, by torchmetrics."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from equipoise.tasks import CLASSIFICATION, REGRESSION, Task


def figures_of(
    task: Task, output: Tensor, predictions: Mapping[str, Tensor], num_classes: int
) -> dict[str, float]:
    """Return the task's figures over all samples of a split.

    Args:
        task: the task.
        output: logits `[n, C]`.
        predictions: see `equipoise.training.measuring.evaluation.Evaluation`.
        num_classes: `C`.
    """
    # Imported here, as it also loads transformers and matplotlib where they are installed.
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_f1_score,
        multilabel_average_precision,
        multilabel_f1_score,
    )

    target = predictions["target"]
    if task is CLASSIFICATION:
        known = target.to(output.device)
        return {
            "accuracy": float(multiclass_accuracy(output, known, num_classes, average="micro")),
            "macro_f1": float(multiclass_f1_score(output, known, num_classes, average="macro")),
        }
    if task is REGRESSION:
        return _of_numbers(predictions["predicted"], target)
    probability = predictions["probability"]
    return {
        "map": float(multilabel_average_precision(probability, target, num_classes)),
        "macro_f1": float(multilabel_f1_score(probability, target, num_classes, average="macro")),
        "micro_f1": float(multilabel_f1_score(probability, target, num_classes, average="micro")),
    }


def _of_numbers(predicted: Tensor, target: Tensor) -> dict[str, float]:
    from torchmetrics.functional import mean_absolute_error, mean_squared_error, pearson_corrcoef, r2_score

    constant = float(predicted.std(unbiased=False)) == 0 or float(target.std(unbiased=False)) == 0
    return {
        "r2": float(r2_score(predicted, target)) if len(target) > 1 else 0.0,
        # The correlation of a constant is undefined, and it carries no information.
        "pearson": 0.0 if constant else float(torch.clamp(pearson_corrcoef(predicted, target), -1, 1)),
        "mae": float(mean_absolute_error(predicted, target)),
        "rmse": float(mean_squared_error(predicted, target, squared=False)),
    }
