"""Calibrated multimodal learning: confidence must not rise when a modality is removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.methods.core.method import Method
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.models.precision import widened
from equipoise.models.subset_logits import ABSENCES, answers_to_zeros, subset_logits


@dataclass
class CML(Method):
    """Train on nested subsets of the modalities, and penalise a subset more confident than the larger one.

    In each step the modalities are removed one by one in random order: `S_0 = all > S_1 > .. > S_{M-1}`.
    With `conf_j = max_c softmax(u_{S_j})_c` of each sample
    `L_conf = sum_j mean_i relu(a_ji (conf_{j+1,i} - conf_{j,i}))`, where `a_ji` is 0 if the smaller subset is
    right and the larger one wrong, else 1, and
    `L = (1 / M) sum_j CE(u_{S_j}, y) + lam * L_conf`.

    Attributes:
        lam: weight of `L_conf`.
        absence: replacement of a removed feature: `zero-feature`, or `zero-input` (the encoder's output for
            an input of zeros).
        subset_losses: False uses only `CE(u, y)` instead of the mean over subsets; with `lam` 0 that is joint
            training.
        detach_larger: where both subsets are wrong, no gradient raises the confidence of the larger one (a
            variant of the official code).
    """

    lam: float = number(0.1)
    absence: str = choice(*ABSENCES)
    subset_losses: bool = True
    detach_larger: bool = False

    name = "cml"
    family = "objective"
    summary = "confidence must not rise when a modality is removed"
    stacks = True
    source = "Ma et al., ICML 2023, arXiv 2306.01265"
    bibtex = ("ma2023calibrating",)
    cost = "M - 1 more passes through the head per step"
    search_space = space(lam=LogUniform(0.01, 1))
    requires = Requirements(min_modalities=2)
    replaces_loss = True

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the mean loss of the nested subsets, and the penalty on their confidences."""
        target = context.batch.target
        if not (self.subset_losses or self.lam):
            return {"subsets": context.run.loss(context.u, target)}
        logits = [context.u, *self._smaller(context)]
        scored = logits if self.subset_losses else logits[:1]
        terms = {"subsets": torch.stack([context.run.loss(u, target) for u in scored]).mean()}
        if self.lam:
            terms["confidence"] = self.lam * confidence_rise(logits, target, self.detach_larger)
        return terms

    def _smaller(self, context: StepContext) -> list[Tensor]:
        """Return the logits of `S_1 .. S_{M-1}`."""
        run = context.run
        names = sorted(run.model.modalities)  # so that their order in the model does not matter
        order = [names[i] for i in torch.randperm(len(names), generator=run.generator).tolist()]
        absent = answers_to_zeros(run.model, context.batch) if self.absence == "zero-input" else None
        return [
            subset_logits(run.model, context.z, order[gone:], absent=absent) for gone in range(1, len(order))
        ]


def confidence_rise(logits: Sequence[Tensor], target: Tensor, detach_larger: bool = False) -> Tensor:
    """Return `L_conf` of the logits `[B, C]` of nested subsets, the largest first, and target `[B]`.

    It is the sum of the rises of confidence from each subset to the next smaller one.
    """
    sure = [widened(u).softmax(1).amax(1) for u in logits]
    right = [u.argmax(1) == target for u in logits]
    rises = []
    for j in range(len(logits) - 1):
        larger = sure[j]
        if detach_larger:
            larger = torch.where(right[j], larger, larger.detach())
        counts = right[j] | ~right[j + 1]
        rises.append(((sure[j + 1] - larger).relu() * counts).mean())
    return torch.stack(rises).sum()
