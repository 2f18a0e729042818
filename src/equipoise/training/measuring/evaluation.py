"""Loss, figures and predictions of a model on a split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.models import BalancedModel
from equipoise.scopes import evaluating
from equipoise.tasks import CLASSIFICATION, REGRESSION, Task, task_named
from equipoise.training.measuring.figures import figures_of
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
    """Evaluate a model on a split in one pass.

    Args:
        model: runs in evaluation mode; the modes of its submodules are then restored.
        batches: the split.
        num_classes: `C`.
        device: where the model is.
        scale: mean and standard deviation by which a numeric target is standardised.
    """
    task = task_named(model.task)
    losses: list[Tensor] = []
    parts: list[dict[str, Tensor]] = []
    outputs: list[Tensor] = []
    with evaluating(model), torch.no_grad():
        for batch in batches:
            batch = batch.to(device)
            output = model(batch).logits.float()
            losses.append(task.losses(output, batch.target).sum())
            parts.append(_predictions(task, output, batch, scale))
            outputs.append(output)
    predictions = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    # Summed on the CPU, as not every device has double precision.
    loss = float(torch.stack(losses).cpu().double().sum()) / len(predictions["target"])
    figures = figures_of(task, torch.cat(outputs), predictions, num_classes)
    return Evaluation({"loss": loss, **figures}, predictions)


def _predictions(task: Task, output: Tensor, batch: Batch, scale: tuple[float, float]) -> dict[str, Tensor]:
    if task is CLASSIFICATION:
        predicted = output.argmax(dim=1)
        target = batch.target
        probability = output.softmax(dim=1).gather(1, batch.target[:, None])[:, 0]
    elif task is REGRESSION:
        mean, deviation = scale
        predicted = output.reshape(len(batch)).cpu().double() * deviation + mean
        target = batch.target.cpu().double() * deviation + mean
        probability = torch.full((len(batch),), torch.nan)
    else:
        probability = output.sigmoid()
        predicted, target = (probability >= 0.5).long(), batch.target.long()
    return {"predicted": predicted, "target": target, "probability": probability, "index": batch.index}
