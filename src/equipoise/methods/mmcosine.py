"""MMCosine: a joint head that reads directions only, so that no modality dominates by its norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.methods.core.method import Method, joint_loss
from equipoise.methods.core.options import number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.methods.shared.contrastive import contrastive_loss
from equipoise.models import BalancedModel, Fusion, with_fusion
from equipoise.models.precision import unit_rows


class CosineFusion(Fusion):
    """Add cosines: `u^m = scale * unit(z^m) unit_rows(W_m)^T`, `u = sum_m u^m`; `|u_ic| <= scale * M`.

    Args:
        scale: the `s` of the paper.
    """

    def __init__(self, widths: Mapping[str, int], num_classes: int, *, scale: float) -> None:
        super().__init__(widths, num_classes)
        self.scale = scale
        self.linears = nn.ModuleList(nn.Linear(d, self.num_classes, bias=False) for d in self.widths.values())

    def own_logits(self, modality: str, z: Tensor) -> Tensor:
        """Return the part `u^m` `[B, C]` of one modality, for its feature `[B, d_m]`; float32 or wider."""
        linear = cast("nn.Linear", self.linears[self.modalities.index(modality)])
        with torch.autocast(z.device.type, enabled=False):  # half precision is too coarse for cosines
            return self.scale * F.linear(unit_rows(z), unit_rows(linear.weight))

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        parts = zip(self.modalities, self.ordered(z), strict=True)
        return torch.stack([self.own_logits(m, feature) for m, feature in parts]).sum(dim=0)


def copy_head(linears: nn.ModuleList, model: BalancedModel) -> None:
    """Copy the weights `W_m` of an additive head into linear layers, one for each modality in order."""
    head = model.head
    assert head is not None  # required of the model
    linears.to(head.bias())
    with torch.no_grad():
        for modality, linear in zip(model.modalities, linears, strict=True):
            cast("nn.Linear", linear).weight.copy_(head.weight(modality))


@dataclass
class MMCosine(Method):
    """Normalise features and class weights by modality: `u = scale * sum_m unit(z^m) unit_rows(W_m)^T`.

    The head is the same in training and at inference, has no bias, and starts from the joint model's weights.
    The loss is `CE(u, y) + lam * L_con` (`contrastive_loss`).

    Attributes:
        scale: the `s` of the paper.
        lam: weight of the contrastive term; needs features of one width.
        temperature: of the contrastive term.
    """

    scale: float = number(10.0, above=0)
    lam: float = number(0.0)
    temperature: float = number(0.1, above=0)

    name = "mmcosine"
    family = "objective"
    summary = "a joint head of cosines, independent of the norms of features and class weights"
    source = "Xu, Feng, Zhang, Hu, ICASSP 2023, arXiv 2303.05338"
    bibtex = ("xu2023mmcosine",)
    requires = Requirements(frozenset({"additive_head"}))
    search_space = space(scale=LogUniform(2, 50))

    def needs(self) -> Requirements:
        """Add what the contrastive term needs: at least two modalities of one width."""
        needs = super().needs()
        return replace(needs.and_of("shared_head"), min_modalities=2) if self.lam else needs

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the model with the head of cosines."""
        fusion = CosineFusion(reference.feature_widths(), reference.num_outputs, scale=self.scale)
        copy_head(fusion.linears, reference)
        return with_fusion(reference, fusion, reference.num_outputs)

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term, and the contrastive term if its weight is not zero."""
        terms = {"joint": joint_loss(context)}
        if self.lam:
            loss = contrastive_loss(context.features, context.batch.target, self.temperature)
            terms["contrastive"] = self.lam * loss
        return terms
