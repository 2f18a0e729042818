"""Loss, accuracy and macro-F1 of a model on a split."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from equipoise.models import BalancedModel
from equipoise.scopes import evaluating
from equipoise.types import Batch


def evaluate(
    model: BalancedModel,
    batches: Iterable[Batch],
    num_classes: int,
    device: torch.device,
) -> dict[str, float]:
    """Return `loss` (mean cross-entropy), `accuracy` and `macro_f1` over all samples.

    Args:
        model: runs in evaluation mode; the modes of its submodules are then as before.
        batches: the split.
        num_classes: `C`.
        device: where the model is.
    """
    accuracy = MulticlassAccuracy(num_classes, average="micro").to(device)
    macro_f1 = MulticlassF1Score(num_classes, average="macro").to(device)
    losses: list[torch.Tensor] = []
    count = 0
    with evaluating(model), torch.no_grad():
        for batch in batches:
            batch = batch.to(device)
            logits = model(batch).logits.float()
            losses.append(F.cross_entropy(logits, batch.target, reduction="sum"))
            count += len(batch)
            accuracy.update(logits, batch.target)
            macro_f1.update(logits, batch.target)
    return {
        # Summed on the CPU, as not every device has double precision.
        "loss": float(torch.stack(losses).cpu().double().sum()) / count,
        "accuracy": float(accuracy.compute()),
        "macro_f1": float(macro_f1.compute()),
    }
