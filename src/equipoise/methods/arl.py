"""Asymmetric representation learning: modalities contribute by how certain they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan
from equipoise.methods.core.step import StepContext
from equipoise.methods.shared.modulation import Modulates
from equipoise.methods.shared.option_checks import check_choice, check_number
from equipoise.methods.shared.precision import widened
from equipoise.methods.shared.unimodal_views import ReadsUnimodal, unimodal_loss

BOOSTS = ("asymmetric", "symmetric", "off")


def contribution_weights(logits: Mapping[str, Tensor], temperature: float, floor: float) -> dict[str, float]:
    """Return `omega = softmax_m(T * w^m * (1 - c^m))`, which adds up to 1.

    `w^m` is proportional to one over the entropy of m's predictions, `c^m` the share of m in the size of the
    logits.

    Args:
        logits: modality to `u^m [B, C]`.
        temperature: `T`.
        floor: least share of the entropy that a modality counts with, in parts of an equal share.
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
    """Let modalities contribute by their certainty, beside unimodal losses through the joint head.

    `L = CE(u, y) + gamma * sum_m CE(u^m, y)`. Behind the warm-up the gradient of encoder m is multiplied by
    `1 + omega^m`, see `contribution_weights`; before, its weight is that of a plain unimodal loss.

    Attributes:
        gamma: weight of the unimodal losses behind the warm-up; in it, 1 at most.
        temperature: `T` of the softmax over modalities.
        floor: least share of the entropy, in parts of an equal share `1 / M`.
        warmup_epochs: first epochs, without boost.
        boost: `asymmetric`; `symmetric` gives every modality `omega^m = 1 / M` (as released); `off`.
        tensors: what the boost scales.
        apply: how.
        logits: source of `u^m`.
    """

    gamma: float = 4.0
    temperature: float = 8.0
    floor: float = 0.6
    warmup_epochs: int = 6
    boost: str = "asymmetric"
    logits: str = "zero-feature"

    name = "arl"
    family = "optimisation"
    summary = "unimodal losses, and larger gradients for modalities that are certain but contribute little"
    source = "Wei, Luo and Luo, ICCV 2025, arXiv 2507.10203"
    cost = "a call of the head a modality a step"
    requires = Requirements(min_modalities=2)
    experimental = True
    sources = ("zero-feature", "slice")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("gamma", self.gamma)
        check_number("temperature", self.temperature)
        check_number("floor", self.floor, 0, 1)
        check_number("warmup_epochs", self.warmup_epochs)
        check_choice("boost", self.boost, BOOSTS)

    def problems(self, plan: Plan) -> list[str]:
        """Say that the warm-up lasts to the end."""
        found = super().problems(plan) if self.boost != "off" else []
        if self.warmup_epochs < plan.epochs:
            return found
        return [
            *found,
            f"the warm-up of {self.name} lasts {self.warmup_epochs} epochs of {plan.epochs}: lower "
            "warmup_epochs, or train longer.",
        ]

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term and the unimodal ones."""
        warm = context.run.epoch >= self.warmup_epochs
        weight = self.gamma if warm else min(self.gamma, 1.0)
        if not weight:
            return {"joint": joint_loss(context)}
        unimodal = unimodal_loss(self.unimodal(context), context.batch.target, context.run.loss)
        return {"joint": joint_loss(context), "unimodal": weight * unimodal}

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
    """Return the entropy of `softmax(u_i)`, the mean over the batch; `0 log 0` is 0."""
    return float(torch.special.entr(widened(logits).softmax(1)).sum(1).mean())


def _shares(values: Mapping[str, float]) -> dict[str, float]:
    """Return values divided by their sum, equal shares where that is 0."""
    total = sum(values.values())
    return {m: value / total if total > 0 else 1 / len(values) for m, value in values.items()}
