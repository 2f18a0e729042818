"""Feature-wise linear modulation (Perez, Strub, de Vries et al., AAAI 2018, arXiv 1709.07871)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from equipoise.models.fusion.base import Fusion
from equipoise.models.options import one_of, positive


class FiLMFusion(Fusion):
    """Scale and shift one modality depending on the others.

    The conditioned modality `c` is projected, `h = z^c P^T + p`, and the others give
    `[delta, beta] = [z^n : n != c] Q^T + q`; the joint logits are `u = ((1 + delta) * h + beta) W^T + b`. The
    scale is predicted as a deviation from one, so that zeros do not change the modality. With a single
    modality there is no modulation: `u = h W^T + b`.

    Args:
        conditioned: the modulated modality; None is the first.
        width: width of `h`.
    """

    name: ClassVar[str] = "film"

    def __init__(
        self, widths: Mapping[str, int], num_classes: int, *, conditioned: str | None = None, width: int = 128
    ) -> None:
        super().__init__(widths, num_classes)
        width = positive("width", width)
        first = self.modalities[0]
        self.conditioned = one_of(
            "conditioned", first if conditioned is None else conditioned, self.modalities
        )
        self.projection = nn.Linear(self.widths[self.conditioned], width)
        others = sum(self.widths.values()) - self.widths[self.conditioned]
        self.modulation = nn.Linear(others, 2 * width) if others else None
        self.output = nn.Linear(width, self.num_classes)

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        features = dict(zip(self.modalities, self.ordered(z), strict=True))
        hidden = self.projection(features.pop(self.conditioned))
        if self.modulation is not None:
            delta, beta = self.modulation(torch.cat(list(features.values()), dim=1)).chunk(2, dim=1)
            hidden = (1 + delta) * hidden + beta
        logits: Tensor = self.output(hidden)
        return logits
