"""Instantaneous probe and rebalance: mix features on the sphere, and reweight the mix by a probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.methods.core.method import Method
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import StepContext
from equipoise.methods.core.search import Uniform, space
from equipoise.methods.shared.unimodal_views import unimodal_loss
from equipoise.models import BalancedModel, Fusion, OwnHeads, with_fusion
from equipoise.models.precision import unit_rows, widened

Pair = tuple[str, str]

FLAT = 1e-3
"""Below this sine of the angle, points are mixed on the straight line instead of the circle."""


def slerp(first: Tensor, second: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return `[sin(a w) n^1 + sin(b w) n^2] / sin w`, the mix on the circle through two directions `[B, d]`.

    `n` are the features scaled to length one, `w` is the angle between them, for each sample; `a` and `b` are
    numbers. Features in (almost) equal or opposite directions do not define a circle, and are mixed as
    `a n^1 + b n^2`. The length is one where `a + b = 1` and the directions are not opposite.
    """
    n1, n2 = unit_rows(first), unit_rows(second)
    # Clamped, because the arc cosine has no finite gradient at -1 and 1.
    angle = (n1 * n2).sum(dim=1, keepdim=True).clamp(-1 + 1e-7, 1 - 1e-7).acos()
    sine = angle.sin()
    weights = [torch.where(sine > FLAT, (k * angle).sin() / sine, k.to(angle)) for k in (a, b)]
    return weights[0] * n1 + weights[1] * n2


class ProbedFusion(Fusion):
    """Own heads and mixes of pairs: `u = sum_m u^m + sum_pairs h_mix(slerp(z^m, z^n; lam))`.

    Args:
        widths: modality to feature width, all of one `d`, in the model's order.
        num_classes: `C`.
        one_mix: whether all pairs share one mix head.

    Attributes:
        pairs: the pairs of modalities, in the order of the rows of the buffers.
        lam: weights of the mix at inference and in the probe `[pairs, 2]`, a moving average of `lamh`.
        lamh: weights of the rebalanced mix `[pairs, 2]`, from the last step with the pair.
    """

    lam: Tensor
    lamh: Tensor

    def __init__(self, widths: Mapping[str, int], num_classes: int, *, one_mix: bool) -> None:
        super().__init__(widths, num_classes)
        self.pairs: list[Pair] = list(combinations(self.modalities, 2))
        self.own = OwnHeads(self.widths, self.num_classes)
        d = next(iter(self.widths.values()))
        self.mixes = nn.ModuleList(
            nn.Linear(d, self.num_classes) for _ in (self.pairs[:1] if one_mix else self.pairs)
        )
        self.register_buffer("lam", torch.full((len(self.pairs), 2), 0.5))
        self.register_buffer("lamh", torch.full((len(self.pairs), 2), 0.5))

    def own_logits(self, modality: str, z: Tensor) -> Tensor:
        """Return the logits `u^m` `[B, C]` of the head of one modality for its feature `[B, d]`."""
        return self.own.own_logits(modality, z)

    def mixed_logits(self, z: Mapping[str, Tensor], index: int, weights: Tensor) -> Tensor:
        """Return the mix head's logits `[B, C]` for a pair of features, mixed by two weights."""
        first, second = self.pairs[index]
        # Copied, as a step changes the buffers between a forward pass and its backward pass.
        a, b = weights.clone()
        mix = slerp(z[first], z[second], a, b)
        logits: Tensor = self.mixes[min(index, len(self.mixes) - 1)](mix)
        return logits

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d]}` to logits `[B, C]`."""
        features = dict(zip(self.modalities, self.ordered(z), strict=True))
        own = [self.own_logits(m, feature) for m, feature in features.items()]
        mixed = [self.mixed_logits(features, i, self.lam[i]) for i in range(len(self.pairs))]
        return torch.stack([*own, *mixed]).sum(dim=0)


def probe_distance(own: Tensor, mixed: Tensor) -> Tensor:
    """Return `mean_i KL(softmax(own_i) || softmax(mixed_i))` of two logits `[B, C]`."""
    log_p, log_v = (widened(x).log_softmax(1) for x in (own, mixed))
    return (log_p.exp() * (log_p - log_v)).sum(dim=1).mean()


@dataclass
class IPRM(Method):
    """Probe which modality a mix of two follows, and train on a reweighted mix.

    For a pair, `lam_t = alpha * lam_{t-1} + (1 - alpha) * lamh_{t-1}` mixes the probe
    `v = h_mix(slerp(z; lam_t))`, without gradient; `K^m = mean KL(p^m || softmax(v))`;
    `lamh^1 = K^2 / (K^1 + K^2)`, `lamh^2 = K^1 / (K^1 + K^2)`. The loss is
    `sum over pairs of CE(h_mix(slerp(z; lamh)), y) + sum_m CE(u^m, y)`; for inference see `ProbedFusion`.

    Attributes:
        alpha: share of the old weights in those of the probe.
        pairs: `all` pairs in every step, each with a separate mix head, or a `random` one, with one mix head.
        swap: weight each modality by its own distance instead of the other's: the one that the mix is farther
            from then gets the larger weight.
    """

    alpha: float = number(0.8, high=1)
    pairs: str = choice("all", "random")
    swap: bool = False

    name = "iprm"
    family = "forward"
    summary = "probe which modality the mixed feature follows, and reweight the mix"
    source = (
        "Towards Equilibrium: An Instantaneous Probe-and-Rebalance Multimodal Learning Approach, IJCAI 2025"
    )
    bibtex = ("yang2025equilibrium",)
    cost = "a linear head per modality, and three calls of a mix head per pair"
    search_space = space(alpha=Uniform(0.1, 1))
    requires = Requirements(frozenset({"shared_head"}), min_modalities=2)
    replaces_loss = True

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the model with a head for each modality and mix heads."""
        one_mix = self.pairs == "random"
        fusion = ProbedFusion(reference.feature_widths(), reference.num_outputs, one_mix=one_mix)
        return with_fusion(reference, fusion, reference.num_outputs)

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Probe, rebalance, and return the terms of the mixes and of the modalities."""
        fusion, z, target = cast("ProbedFusion", context.run.model.fusion), context.z, context.batch.target
        own = {m: fusion.own_logits(m, z[m]) for m in fusion.modalities}
        chosen = range(len(fusion.pairs))
        if self.pairs == "random":
            draw = int(torch.randint(len(fusion.pairs), (), generator=context.run.generator))
            chosen = range(draw, draw + 1)
        mixes = []
        for index in chosen:
            self._probe(fusion, z, own, index)
            logits = fusion.mixed_logits(z, index, fusion.lamh[index])
            mixes.append(F.cross_entropy(logits, target))
        return {"mix": torch.stack(mixes).sum(), "unimodal": unimodal_loss(own, target)}

    @torch.no_grad()
    def _probe(
        self, fusion: ProbedFusion, z: Mapping[str, Tensor], own: Mapping[str, Tensor], index: int
    ) -> None:
        """Update the weights of a pair."""
        fusion.lam[index] = self.alpha * fusion.lam[index] + (1 - self.alpha) * fusion.lamh[index]
        probe = fusion.mixed_logits(z, index, fusion.lam[index])
        distances = torch.stack([probe_distance(own[m], probe) for m in fusion.pairs[index]])
        distances = distances.clamp_min(0)  # rounding may give slightly negative ones
        weights = distances if self.swap else distances.flip(0)
        total = distances.sum()
        fusion.lamh[index] = torch.where(total > 0, weights / total, 0.5).to(fusion.lamh.dtype)
