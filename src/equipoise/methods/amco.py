"""Adaptive mask co-optimisation: mask a part of the modality that the model depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from equipoise.methods.core.method import Method, joint_loss
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Run, StepContext
from equipoise.methods.core.search import LogUniform, Uniform, space
from equipoise.methods.mmcosine import copy_head
from equipoise.methods.shared.unimodal_views import unimodal_loss
from equipoise.models import BalancedModel, Fusion, with_fusion
from equipoise.models.precision import widened


class RecombinedFusion(Fusion):
    """Recombine the sum of an additive head's parts: `u = A(sum_m u^m) + c`, `u^m = z^m W_m^T + b / M`.

    Initially `A` is the identity and `c` zero, so that the fusion starts as the additive head.
    """

    def __init__(self, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(widths, num_classes)
        self.linears = nn.ModuleList(nn.Linear(d, self.num_classes, bias=False) for d in self.widths.values())
        self.bias = nn.Parameter(torch.zeros(self.num_classes))
        self.recombine = nn.Linear(self.num_classes, self.num_classes)
        nn.init.eye_(self.recombine.weight)
        nn.init.zeros_(self.recombine.bias)

    def own_logits(self, modality: str, z: Tensor) -> Tensor:
        """Return the part `u^m` `[B, C]` of one modality for its feature `[B, d_m]`, before `A`."""
        logits: Tensor = self.linears[self.modalities.index(modality)](z)
        return logits + self.bias / len(self.modalities)

    def joined(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the joint logits `[B, C]` from the parts `u^m`."""
        logits: Tensor = self.recombine(torch.stack(list(parts.values())).sum(dim=0))
        return logits

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        pairs = zip(self.modalities, self.ordered(z), strict=True)
        return self.joined({m: self.own_logits(m, feature) for m, feature in pairs})


def shares(logits: Mapping[str, Tensor]) -> dict[str, float]:
    """Return each modality's share of the softmax over all unimodal logits `[B, M * C]`, the batch mean."""
    stacked = torch.cat(list(logits.values()), dim=1)
    p = widened(stacked).softmax(dim=1)
    by_modality = p.reshape(len(p), len(logits), -1).sum(dim=2).mean(dim=0)
    return dict(zip(logits, by_modality.tolist(), strict=True))


def masked_entries(width: int, length: float, eps: float) -> int:
    """Return `floor(width * sin(pi/2 * min(eps, l) / eps))`, the number of entries that a mask zeroes."""
    return math.floor(width * math.sin(math.pi / 2 * min(eps, length) / eps))


@dataclass
class AMCo(Method):
    """Mask entries of the dependent modality, and keep a loss on each modality.

    Modality m is dependent in a step if its share (`shares`) in the previous step was above `sigma`. A mask
    of `n` zeros (`masked_entries`), drawn for each batch, is applied to its logits or its feature, which
    gives `u~^m`; for the others `u~^m = u^m`. The output is `u = A(sum_m u~^m) + c`, the loss
    `CE(u, y) + weight * sum_m CE(u~^m, y)`. Inference is not masked.

    Attributes:
        mask_on: `logits`, as in the one published re-implementation, or `features`.
        sigma: share above which a modality is dependent; None is `1 / M`, for two modalities the usual 0.5.
        eps: the `l` at which the mask reaches its full width.
        growth: how `l` grows: `run`, the completed part of training; or `epoch`, by a tenth of the epoch's
            number with each batch, from zero in each epoch.
        weight: of the unimodal losses.
    """

    mask_on: str = choice("logits", "features")
    sigma: float | None = number(None, high=1)
    eps: float = number(0.3, above=0)
    growth: str = choice("run", "epoch")
    weight: float = number(1.0)

    name = "amco"
    family = "forward"
    summary = "mask a growing part of the modality that the model depends on"
    source = "Zhou, Liang, Zheng, Xuan, Kumada, ICASSP 2023, doi 10.1109/ICASSP49357.2023.10096641"
    bibtex = ("zhou2023adaptive",)
    cost = "two head slices per modality per step"
    search_space = space(eps=Uniform(0.1, 1), weight=LogUniform(0.1, 10))
    requires = Requirements(frozenset({"additive_head"}), min_modalities=2)
    experimental = True
    remembered = ("_shares", "_batch")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._shares: dict[str, float] = {}
        self._batch = 0
        self._parts: dict[str, Tensor] = {}

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the model with the recombined head, initialised from the joint model's head."""
        fusion = RecombinedFusion(reference.feature_widths(), reference.num_outputs)
        assert reference.head is not None  # required of the model
        fusion.to(reference.head.bias())
        copy_head(fusion.linears, reference)
        with torch.no_grad():
            fusion.bias.copy_(reference.head.bias())
        return with_fusion(reference, fusion, reference.num_outputs)

    def epoch_start(self, run: Run) -> None:
        """Restart the count of batches."""
        self._batch = 0

    def fuse(self, z: dict[str, Tensor], context: StepContext) -> Tensor:
        """Mask the modalities that were dependent in the last step, and compute the present shares."""
        run = context.run
        fusion = cast("RecombinedFusion", run.model.fusion)
        parts = {m: fusion.own_logits(m, z[m]) for m in fusion.modalities}
        sigma, before = 1 / len(parts) if self.sigma is None else self.sigma, self._shares
        # In the order of their shares, so that draws do not depend on the order of the modalities.
        dependent = sorted((m for m in before if before[m] > sigma), key=lambda m: -before[m])
        self._shares = shares({m: u.detach() for m, u in parts.items()})
        length = self._length(run)
        shared_mask = None
        for m in dependent:
            if self.mask_on == "features":
                mask = draw_mask(z[m], masked_entries(z[m].shape[1], length, self.eps), run.generator)
                parts[m] = fusion.own_logits(m, z[m] * mask)
                continue
            if shared_mask is None:
                zeros = masked_entries(fusion.num_classes, length, self.eps)
                shared_mask = draw_mask(parts[m], zeros, run.generator)
            parts[m] = parts[m] * shared_mask
        self._parts = parts
        return fusion.joined(parts)

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term and those of the masked modalities."""
        terms = {"joint": joint_loss(context)}
        if self.weight:
            terms["unimodal"] = self.weight * unimodal_loss(
                self._parts, context.batch.target, context.run.loss
            )
        self._parts = {}
        return terms

    def after_step(self, context: StepContext) -> None:
        """Count the batch."""
        self._batch += 1

    def _length(self, run: Run) -> float:
        """Return `l`, by which the mask grows."""
        if self.growth == "epoch":
            return self._batch * run.epoch / 10
        return run.step / max(run.total_epochs * run.steps_per_epoch, 1)


def draw_mask(like: Tensor, zeros: int, generator: torch.Generator) -> Tensor:
    """Return a mask `[d]` of ones with `zeros` zeros at random places, for a tensor `[B, d]`."""
    mask = torch.ones(like.shape[1])
    mask[torch.randperm(like.shape[1], generator=generator)[:zeros]] = 0
    return mask.to(like)
