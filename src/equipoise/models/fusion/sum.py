"""Sum of one linear layer per modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from equipoise.models.fusion.base import Fusion
from equipoise.models.fusion.head import SumHead


class SumFusion(Fusion):
    """Add the outputs of one linear layer per modality: `u = sum_m z^m W_m^T + b`.

    The bias is shared, as with `concat`; the two fusions differ in their initial weights: here each layer is
    initialised according to its own width.
    """

    name: ClassVar[str] = "sum"

    def __init__(self, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(widths, num_classes)
        self.linears = nn.ModuleList(nn.Linear(d, self.num_classes, bias=False) for d in self.widths.values())
        self.bias = nn.Parameter(torch.zeros(self.num_classes))

    def reset_parameters(self) -> None:
        """Initialise the bias again; the linear layers initialise themselves."""
        nn.init.zeros_(self.bias)

    @property
    def head(self) -> SumHead:
        """The view of the linear layers and the shared bias."""
        linears = cast("list[nn.Linear]", list(self.linears))
        return SumHead(dict(zip(self.modalities, linears, strict=True)), self.bias)

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        logits = self.bias
        for linear, feature in zip(self.linears, self.ordered(z), strict=True):
            logits = logits + linear(feature)
        return logits
