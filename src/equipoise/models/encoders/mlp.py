"""Encoder of feature vectors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from equipoise.models.dropout import Dropout
from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.stages import Stages, in_stages
from equipoise.models.options import positive_sizes, probability


class MLP(Encoder):
    """Multi-layer perceptron for feature vectors.

    Every layer ends in a ReLU, including the last one: the following head is linear and would absorb a linear
    last layer.

    Args:
        in_features: width `d` of the input `[B, d]`.
        hidden: width of each layer; the last one is `out_features`.
        dropout: probability of dropping a hidden unit, after each ReLU.
    """

    name: ClassVar[str] = "mlp"
    kinds: ClassVar[tuple[str, ...]] = ("vector",)
    channel_dim: ClassVar[int | None] = 1

    def __init__(self, in_features: int, *, hidden: Sequence[int] = (128, 128), dropout: float = 0.2) -> None:
        super().__init__(in_features)
        widths = positive_sizes("hidden", hidden)
        rate = probability("dropout", dropout)
        layers: list[nn.Module] = []
        for before, after in pairwise((in_features, *widths)):
            layers += [nn.Linear(before, after), nn.ReLU()]
            if rate:
                layers.append(Dropout(rate))
        self.layers = nn.Sequential(*layers)
        self.stage_widths = widths
        self.out_features = widths[-1]

    def stages(self, x: Tensor) -> Stages:
        """Encode vectors: `[B, d]` to `[B, out_features]`, with a stage `[B, width]` for each layer."""
        return in_stages(self.layers, len(self.stage_widths), x)
