"""Asymmetric representation learning: modalities contribute by their certainty."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, StepContext
from equipoise.methods.core.search import LogUniform, Whole, space
from equipoise.methods.shared.modulation import Modulates
from equipoise.methods.shared.unimodal_views import ReadsUnimodal
from equipoise.models.precision import widened


def contribution_weights(logits: Mapping[str, Tensor], temperature: float, floor: float) -> dict[str, float]:
    """Return `omega = softmax_m(T * w^m * (1 - c^m))`, with sum 1.

    `w^m` is proportional to the inverse entropy of the predictions of logits `u^m [B, C]`, `c^m` the share of
    m in the mean absolute logits, and `floor` the smallest share of the entropy, see `ARL`.
    """
    count = len(logits)
    entropy = _shares({m: _mean_entropy(u) for m, u in logits.items()})
    size = _shares({m: float(widened(u).abs().mean()) for m, u in logits.items()})
    certainty = _shares({m: 1 / max(share, floor / count, 1e-8) for m, share in entropy.items()})
    exponents = {m: temperature * certainty[m] * (1 - size[m]) for m in logits}
    top = max(exponents.values())
    return _shares({m: math.exp(e - top) for m, e in exponents.items()})


@dataclass
class ARL(Modulates, ReadsUnimodal):
    """Let modalities contribute by their certainty, and add unimodal losses through the joint head.

    `L = CE(u, y) + gamma * sum_m CE(u^m, y)`. After the warm-up the gradient of encoder m is multiplied by
    `1 + omega^m`, see `contribution_weights`.

    Attributes:
        gamma: weight of the unimodal losses; at most 1 during the warm-up.
        temperature: `T` of the softmax over modalities.
        floor: smallest share of the entropy, as a fraction of an equal share `1 / M`.
        warmup_epochs: first epochs, without boost.
        boost: `asymmetric`; `symmetric` gives every modality `omega^m = 1 / M` (as released); `off`.
    """

    gamma: float = number(4.0)
    temperature: float = number(8.0)
    floor: float = number(0.6, high=1)
    warmup_epochs: int = number(6)
    boost: str = choice("asymmetric", "symmetric", "off")
    logits: str = choice("zero-feature", "slice")

    name = "arl"
    family = "optimisation"
    summary = "unimodal losses, and larger gradients for modalities that are certain but contribute little"
    stacks = True
    source = "Wei, Luo and Luo, ICCV 2025, arXiv 2507.10203"
    bibtex = ("wei2025improving",)
    cost = "a call of the head per modality per step"
    search_space = space(gamma=LogUniform(0.5, 16), temperature=LogUniform(1, 32), warmup_epochs=Whole(0, 10))
    requires = Requirements(min_modalities=2)
    experimental = True

    def acts_on_encoders(self) -> bool:
        """Whether gradients are scaled."""
        return self.boost != "off"

    def problems(self, plan: Plan) -> list[str]:
        """Warn that training ends with the warm-up."""
        found = super().problems(plan) if self.boost != "off" else []
        if self.warmup_epochs >= plan.epochs:
            found.append(
                f"the warm-up of {self.name} lasts {self.warmup_epochs} epochs of {plan.epochs}: lower "
                "warmup_epochs, or train longer."
            )
        return found

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term and the unimodal ones."""
        warm = context.run.epoch >= self.warmup_epochs
        weight = self.gamma if warm else min(self.gamma, 1.0)
        if not weight:
            return {"joint": joint_loss(context)}
        return {"joint": joint_loss(context), "unimodal": weight * self.unimodal_loss(context)}

    def after_backward(self, context: StepContext) -> None:
        """Boost the encoders' gradients."""
        run = context.run
        if self.boost == "off" or run.epoch < self.warmup_epochs:
            return
        if self.boost == "symmetric":
            omega = dict.fromkeys(run.model.modalities, 1 / len(run.model.modalities))
        else:
            logits = self.unimodal(context, detached=True)
            omega = contribution_weights(logits, self.temperature, self.floor)
        self.modulate(context, {m: 1 + share for m, share in omega.items()})


def _mean_entropy(logits: Tensor) -> float:
    """Return the mean entropy of `softmax(u_i)` over the batch."""
    return float(torch.special.entr(widened(logits).softmax(1)).sum(1).mean())


def _shares(values: Mapping[str, float]) -> dict[str, float]:
    """Return values divided by their sum, or equal shares if the sum is 0."""
    total = sum(values.values())
    return {m: value / total if total > 0 else 1 / len(values) for m, value in values.items()}
