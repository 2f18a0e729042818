"""On-the-fly prediction modulation: features of the leading modality are dropped in the forward pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.methods.core.options import number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import StepContext
from equipoise.methods.core.search import Uniform, Whole, space
from equipoise.methods.shared.unimodal_views import ReadsUnimodal
from equipoise.methods.shared.windows import Windowed


def drop_probabilities(scores: Mapping[str, float], q_base: float, lam: float) -> dict[str, float]:
    """Return `q^m = clip(q_base * (1 + lam * r^m), 0, 1)` where `r^m > 0`, else 0.

    `r^m = tanh(relu(s^m / s^other - 1))`; with more than two modalities `s^other` is the mean score of the
    others. The weakest modality never exceeds that mean, so its `q^m` is 0: one modality is never dropped.
    """
    probabilities = {}
    for name, score in scores.items():
        others = [other for rival, other in scores.items() if rival != name]
        r = math.tanh(max(score / max(sum(others) / len(others), 1e-8) - 1, 0))
        probabilities[name] = min(max(q_base * (1 + lam * r), 0), 1) if r > 0 else 0.0
    return probabilities


@dataclass
class OPM(ReadsUnimodal, Windowed):
    """Drop the feature of a modality with a probability that grows with its lead.

    With `s^m = sum_i softmax(u^m_i)[y_i]` of the unchanged features and `q^m` of `drop_probabilities`, a
    batch is modulated with probability `p_exe`: `z~^m_i = delta^m_i * z^m_i / (1 - theta)`, where
    `delta^m_i ~ Bernoulli(1 - q^m)` and `theta = sum_m d_m q^m / sum_m d_m`. The loss is `CE(g(z~), y)`.

    Attributes:
        q_base: drop probability of a modality with the smallest lead; 0 is joint training.
        lam: increase of the drop probability with the lead.
        p_exe: probability with which a batch is modulated.
    """

    q_base: float = number(0.5, high=1)
    lam: float = number(0.5)
    p_exe: float = number(0.7, high=1)
    start_epoch: int = 6

    name = "opm"
    family = "forward"
    summary = "drop features of the leading modality, the more often the larger its lead"
    stacks = True
    source = "Wei, Hu, Du, Wen, TPAMI 2024, arXiv 2410.11582"
    bibtex = ("wei2024onthefly",)
    cost = "one head slice per modality per step"
    search_space = space(
        q_base=Uniform(0.1, 0.9), lam=Uniform(0, 1), p_exe=Uniform(0.3, 1), start_epoch=Whole(0, 10)
    )
    requires = Requirements(min_modalities=2)

    def edit_features(self, z: dict[str, Tensor], context: StepContext) -> dict[str, Tensor]:
        """Drop features, and scale up the others."""
        run = context.run
        if not self.in_window(run) or not self.q_base:
            return z
        scores = self.scores(context)
        q = drop_probabilities(scores, self.q_base, self.lam)
        if float(torch.rand((), generator=run.generator)) >= self.p_exe or not any(q.values()):
            return z
        widths = {name: feature.shape[1] for name, feature in z.items()}
        theta = sum(widths[name] * q[name] for name in z) / sum(widths.values())
        # In the order of the scores, so that draws do not depend on the order of the modalities.
        kept = {
            name: torch.rand(len(context.batch), generator=run.generator) >= q[name]
            for name in sorted(z, key=lambda name: -scores[name])
            if q[name] > 0
        }
        factors = {name: keep.to(z[name])[:, None] for name, keep in kept.items()}
        return {name: feature * factors.get(name, 1) / (1 - theta) for name, feature in z.items()}
