"""Concatenation and one linear layer, the most common fusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from equipoise.models.fusion.base import Fusion
from equipoise.models.fusion.head import ConcatHead
from equipoise.randomness import isolated_rng


class ConcatFusion(Fusion):
    """Concatenate the features in modality order and apply one linear layer: `u = [z^1 .. z^M] W^T + b`."""

    name: ClassVar[str] = "concat"

    def __init__(self, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(widths, num_classes)
        self.linear = nn.Linear(sum(self.widths.values()), self.num_classes)

    @classmethod
    def from_linear(cls, linear: nn.Linear, widths: Mapping[str, int]) -> Self:
        """Create a fusion around an existing linear layer, `[B, sum d_m]` to `[B, C]`, which is not copied.

        The widths are in the order in which the layer reads the modalities.

        Raises:
            ModelError: the widths do not add up to the layer's input.
        """
        ConcatHead(linear, widths)
        with isolated_rng():  # the layer drawn here is replaced; the caller's random state must not change
            fusion = cls(widths, linear.out_features)
        fusion.linear = linear
        return fusion

    @property
    def head(self) -> ConcatHead:
        """The view of the linear layer."""
        return ConcatHead(self.linear, self.widths)

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        logits: Tensor = self.linear(torch.cat(self.ordered(z), dim=1))
        return logits
