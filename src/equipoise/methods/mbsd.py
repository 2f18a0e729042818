"""Self-distillation between modalities, in each sample from the more confident one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.methods.shared.unimodal_views import ReadsUnimodal, true_class_probability, unimodal_loss
from equipoise.models.precision import widened


@dataclass
class MBSD(ReadsUnimodal):
    """In each sample, the modality that is more confident of the true class teaches the other.

    For a pair (m, n) and a sample i, the constant `w_i` is `|p^m_y - p^n_y|` if at least one of the two
    predicts `y_i`, else 0. The one with the larger `p_y` is strong, the other weak:
    `L_KL = mean_i w_i KL(p_strong || p_weak)`, `L_RS = mean_i w_i |r_strong - r_weak|^2 / C`, both without
    gradient to the strong one, with probabilities or logits as r.
    `L = CE(u, y) + w_uni * sum_m CE(u^m, y) + mean over pairs of (w_kl * L_KL + w_rs * L_RS)`.

    Attributes:
        w_kl: weight of `L_KL`.
        w_rs: weight of `L_RS`.
        w_uni: weight of the unimodal losses.
        representation: what `L_RS` compares: `probabilities`, or `logits`, which are not bounded: training
            diverged with large learning rates.
    """

    logits: str = choice("slice", "aux", "zero-feature")
    w_kl: float = number(1.0)
    w_rs: float = number(1.0)
    w_uni: float = number(1.0)
    representation: str = choice("probabilities", "logits")

    name = "mbsd"
    family = "objective"
    summary = "in each sample the more confident modality teaches the other"
    stacks = True
    source = "Liu et al., WSDM 2023, doi 10.1145/3539597.3570423"
    bibtex = ("liu2023multimodal",)
    cost = "one head slice per modality"
    search_space = space(w_kl=LogUniform(0.1, 10), w_rs=LogUniform(0.1, 10), w_uni=LogUniform(0.1, 10))
    requires = Requirements(min_modalities=2)
    experimental = True

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term, the unimodal term and the two terms of the pairs."""
        terms, target = {"joint": joint_loss(context)}, context.batch.target
        if not (self.w_kl or self.w_rs or self.w_uni):
            return terms
        logits = self.unimodal(context)
        if self.w_uni:
            terms["unimodal"] = self.w_uni * unimodal_loss(logits, target, context.run.loss)
        if self.w_kl or self.w_rs:
            divergence, distance = self_distillation(logits, target, self.representation)
            terms["divergence"], terms["distance"] = self.w_kl * divergence, self.w_rs * distance
        return terms


def self_distillation(
    logits: Mapping[str, Tensor], target: Tensor, representation: str
) -> tuple[Tensor, Tensor]:
    """Return `L_KL` and `L_RS` of the logits `u^m [B, C]` of two modalities or more, see `MBSD`.

    They are the means over all pairs of modalities.
    """
    pairs = [_of_pair(a, b, target, representation) for a, b in combinations(logits.values(), 2)]
    divergences, distances = zip(*pairs, strict=True)
    return torch.stack(divergences).mean(), torch.stack(distances).mean()


def _of_pair(a: Tensor, b: Tensor, target: Tensor, representation: str) -> tuple[Tensor, Tensor]:
    a, b = widened(a), widened(b)
    with torch.no_grad():
        p_a, p_b = (true_class_probability(u, target) for u in (a, b))
        known = (a.argmax(1) == target) | (b.argmax(1) == target)
        weight = (p_a - p_b).abs() * known
        first = (p_a >= p_b)[:, None]  # if they are equal the weight is zero
    strong, weak = torch.where(first, a, b).detach(), torch.where(first, b, a)
    log_strong, log_weak = strong.log_softmax(1), weak.log_softmax(1)
    divergence = (log_strong.exp() * (log_strong - log_weak)).sum(1)
    if representation == "probabilities":
        strong, weak = log_strong.exp(), log_weak.exp()
    distance = (strong - weak).square().mean(1)
    return (weight * divergence).mean(), (weight * distance).mean()
