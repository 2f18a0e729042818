"""Loss, figures and predictions of a model on a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.distributed import by_first
from equipoise.models import BalancedModel
from equipoise.scopes import evaluating
from equipoise.tasks import CLASSIFICATION, REGRESSION, Task, task_named
from equipoise.types import Batch


@dataclass(frozen=True)
class Evaluation:
    """The result of one pass over a split.

    Attributes:
        scores: `loss` (the task's, mean over all samples) and the task's figures, see `equipoise.tasks`;
            for a numeric target in its own units.
        predictions: of each sample, `[n]` on the CPU, in the order of the split: `predicted` and `target`
            (class indices), `probability` of the true class (float32), and `index`, its row in the dataset.
            For labels the first three are `[n, C]`, with the probability of each label. For numbers they are
            in the target's units, and the probability is NaN.
    """

    scores: dict[str, float]
    predictions: dict[str, Tensor]


def evaluate(
    model: BalancedModel,
    batches: Iterable[Batch],
    num_classes: int,
    device: torch.device,
    scale: tuple[float, float] = (0.0, 1.0),
) -> Evaluation:
    """Evaluate a model on a split in one pass, in evaluation mode; the modes of its submodules are restored.

    `scale` is the mean and standard deviation by which a numeric target is standardised.
    """
    task = task_named(model.task)
    losses: list[Tensor] = []
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    indices: list[Tensor] = []
    with evaluating(model), torch.no_grad():
        for batch in batches:
            batch = batch.to(device)
            output = model(batch).logits.float()
            losses.append(task.losses(output, batch.target).sum())
            outputs.append(output)
            targets.append(batch.target)
            indices.append(batch.index)
    output, target = torch.cat(outputs), torch.cat(targets)
    predictions = _predictions(task, output, target, scale) | {"index": torch.cat(indices)}
    predictions = {name: value.cpu() for name, value in predictions.items()}
    # Summed on the CPU, as not every device has double precision.
    loss = float(torch.stack(losses).cpu().double().sum()) / len(target)
    figures = by_first(lambda: _figures(task, output, predictions, num_classes))
    return Evaluation({"loss": loss, **figures}, predictions)


def _predictions(task: Task, output: Tensor, target: Tensor, scale: tuple[float, float]) -> dict[str, Tensor]:
    if task is CLASSIFICATION:
        predicted = output.argmax(dim=1)
        probability = output.softmax(dim=1).gather(1, target[:, None])[:, 0]
    elif task is REGRESSION:
        mean, deviation = scale
        predicted = output.reshape(len(target)).cpu().double() * deviation + mean
        target = target.cpu().double() * deviation + mean
        probability = torch.full((len(target),), torch.nan)
    else:
        probability = output.sigmoid()
        predicted, target = (probability >= 0.5).long(), target.long()
    return {"predicted": predicted, "target": target, "probability": probability}


def _figures(
    task: Task, output: Tensor, predictions: Mapping[str, Tensor], num_classes: int
) -> dict[str, float]:
    """Return the task's figures, by torchmetrics, of logits `[n, C]` and what was predicted from them."""
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
