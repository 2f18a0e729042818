"""Loss, accuracy and macro-F1 of a model on a split, and what it says of each sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from equipoise.models import BalancedModel
from equipoise.scopes import evaluating
from equipoise.types import Batch


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split gave.

    Attributes:
        scores: `loss` (mean cross-entropy), `accuracy` and `macro_f1` over all samples.
        predictions: of each sample, `[n]` on the CPU, in the order of the split: `predicted` and `target`
            (class indices), `probability` of the true class (float32), and `index`, its row in the dataset.
    """

    scores: dict[str, float]
    predictions: dict[str, Tensor]


def evaluate(
    model: BalancedModel,
    batches: Iterable[Batch],
    num_classes: int,
    device: torch.device,
) -> dict[str, float]:
    """Return `loss`, `accuracy` and `macro_f1` alone; see `evaluate_samples`."""
    return evaluate_samples(model, batches, num_classes, device).scores


def evaluate_samples(
    model: BalancedModel,
    batches: Iterable[Batch],
    num_classes: int,
    device: torch.device,
) -> Evaluation:
    """Pass a split through the model once.

    Args:
        model: runs in evaluation mode; the modes of its submodules are then as before.
        batches: the split.
        num_classes: `C`.
        device: where the model is.
    """
    accuracy = MulticlassAccuracy(num_classes, average="micro").to(device)
    macro_f1 = MulticlassF1Score(num_classes, average="macro").to(device)
    losses: list[Tensor] = []
    parts: list[dict[str, Tensor]] = []
    with evaluating(model), torch.no_grad():
        for batch in batches:
            batch = batch.to(device)
            logits = model(batch).logits.float()
            losses.append(F.cross_entropy(logits, batch.target, reduction="sum"))
            parts.append(_predictions(logits, batch))
            accuracy.update(logits, batch.target)
            macro_f1.update(logits, batch.target)
    predictions = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    return Evaluation(
        {
            # Summed on the CPU, as not every device has double precision.
            "loss": float(torch.stack(losses).cpu().double().sum()) / len(predictions["target"]),
            "accuracy": float(accuracy.compute()),
            "macro_f1": float(macro_f1.compute()),
        },
        predictions,
    )


def _predictions(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    return {
        "predicted": logits.argmax(dim=1),
        "target": batch.target,
        "probability": logits.softmax(dim=1).gather(1, batch.target[:, None])[:, 0],
        "index": batch.index,
    }
