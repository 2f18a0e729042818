"""Gated multimodal units (Arevalo, Solorio, Montes-y-Gómez, González, 2017, arXiv 1702.01992)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from equipoise.models.fusion.base import Fusion
from equipoise.models.options import positive


class GatedFusion(Fusion):
    """Sum the modalities, weighted by gates that read all of them.

    With `h_m = tanh(z^m W_m^T)` and `g_m = sigmoid([z^1 .. z^M] V_m^T)` the joint logits are
    `u = (sum_m g_m * h_m) W^T + b`: the unit for any number of modalities, with independent gates. A
    feature of zeros contributes nothing to the sum, but still affects the gates of the others.

    Args:
        width: hidden units of each `h_m` and `g_m`.
    """

    name: ClassVar[str] = "gated"

    def __init__(self, widths: Mapping[str, int], num_classes: int, *, width: int = 128) -> None:
        super().__init__(widths, num_classes)
        width, total = positive("width", width), sum(self.widths.values())
        self.units = nn.ModuleList(nn.Linear(d, width, bias=False) for d in self.widths.values())
        self.gates = nn.ModuleList(nn.Linear(total, width, bias=False) for _ in self.widths)
        self.output = nn.Linear(width, self.num_classes)

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        features = self.ordered(z)
        everything = torch.cat(features, dim=1)
        parts = zip(self.units, self.gates, features, strict=True)
        gated = [gate(everything).sigmoid() * unit(feature).tanh() for unit, gate, feature in parts]
        logits: Tensor = self.output(torch.stack(gated).sum(dim=0))
        return logits
