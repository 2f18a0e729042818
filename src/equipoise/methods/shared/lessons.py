"""Distillation from a model's own earlier outputs, which are kept for each training sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from equipoise.methods.core.run import Run
from equipoise.models.precision import widened
from equipoise.scopes import evaluating
from equipoise.tasks import CLASSIFICATION, MULTILABEL
from equipoise.types import Batch


class Lessons:
    """The outputs of earlier models on the training samples, by head.

    They are computed once, in evaluation mode on inputs that are not augmented, and take `N * C` numbers of
    32 bits for each head.

    Args:
        mean: teach the mean of all outputs so far, not only the last.
    """

    def __init__(self, mean: bool = False) -> None:
        self.mean, self.count = mean, 0
        self._rows = torch.empty(0, dtype=torch.int64)
        self._outputs: dict[str, Tensor] = {}

    def learn(self, run: Run, heads: Callable[[Batch], Mapping[str, Tensor]]) -> None:
        """Take the outputs `{head: [B, C]}` of all training samples."""
        rows: list[Tensor] = []
        found: dict[str, list[Tensor]] = {}
        with evaluating(run.model), evaluating(run.modules), torch.no_grad():
            for batch in run.train_eval:
                rows.append(batch.index.cpu())
                for name, output in heads(batch.to(run.device)).items():
                    found.setdefault(name, []).append(output.float())
        self._rows, order = torch.cat(rows).sort()
        outputs = {name: torch.cat(parts)[order.to(parts[0].device)] for name, parts in found.items()}
        if self.mean and self._outputs:
            before = self.count / (self.count + 1)
            outputs = {name: torch.lerp(new, self._outputs[name], before) for name, new in outputs.items()}
        self._outputs, self.count = outputs, self.count + 1

    def distance(
        self, outputs: Mapping[str, Tensor], batch: Batch, temperature: float, task: str
    ) -> dict[str, Tensor]:
        """Return the distance of each head's output `[B, C]` from what it is taught; nothing before a lesson.

        For classes and labels it is `T^2 * KL(softmax(t / T) || softmax(u / T))` (sigmoid for labels), the
        mean over the batch (Hinton et al., arXiv 1503.02531); for numbers the mean squared difference.
        """
        if not self._outputs:
            return {}
        places = torch.searchsorted(self._rows, batch.index.cpu())
        found = {}
        for name, output in outputs.items():
            taught = self._outputs[name]
            taught = taught[places.to(taught.device)].to(output.device)
            found[name] = divergence(taught, widened(output), temperature, task)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"rows": self._rows, "outputs": dict(self._outputs), "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of an interrupted run."""
        self._rows, self._outputs = state["rows"], dict(state["outputs"])
        self.count = int(state["count"])


def divergence(taught: Tensor, output: Tensor, temperature: float, task: str) -> Tensor:
    """Return the distance of outputs `[B, C]` from those that are taught; see `Lessons.distance`."""
    if task not in (CLASSIFICATION.name, MULTILABEL.name):
        return F.mse_loss(output, taught)
    soft, own = taught / temperature, output / temperature
    if task == CLASSIFICATION.name:
        target = soft.log_softmax(dim=1)
        value = F.kl_div(own.log_softmax(dim=1), target, reduction="batchmean", log_target=True)
    else:
        p = soft.sigmoid()
        value = F.binary_cross_entropy_with_logits(own, p) - F.binary_cross_entropy_with_logits(soft, p)
    return temperature**2 * value
