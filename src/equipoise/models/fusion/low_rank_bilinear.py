"""Low-rank bilinear fusion for any number of modalities (Liu et al., ACL 2018, arXiv 1806.00064)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor, nn

from equipoise.models.fusion.base import Fusion
from equipoise.models.options import positive


class LowRankBilinearFusion(Fusion):
    """Multiply a projection of every modality, element by element.

    `u = (prod_m [z^m, 1] U_m^T) W^T + b` with `U_m` of `rank` rows: the tensor of all products of features
    within and between modalities, factorised into a sum of `rank` terms. Without the appended 1, a modality
    of zeros would make every product zero. The factors of the ones are initialised to one, so that at first
    an absent modality multiplies the others by one.

    Args:
        rank: number of products.
    """

    name: ClassVar[str] = "low-rank-bilinear"

    def __init__(self, widths: Mapping[str, int], num_classes: int, *, rank: int = 64) -> None:
        super().__init__(widths, num_classes)
        rank = positive("rank", rank)
        # The bias of each layer is the column of U_m that reads the appended 1.
        self.factors = nn.ModuleList(nn.Linear(d, rank) for d in self.widths.values())
        self.output = nn.Linear(rank, self.num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the factors of the ones to one."""
        for factor in self.factors:
            if isinstance(factor, nn.Linear):
                nn.init.ones_(factor.bias)

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        pairs = zip(self.factors, self.ordered(z), strict=True)
        product = reduce(torch.mul, [factor(feature) for factor, feature in pairs])
        logits: Tensor = self.output(product)
        return logits
