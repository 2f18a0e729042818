"""Transformer encoder of sequences (Vaswani et al., NeurIPS 2017, arXiv 1706.03762)."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.stages import Stages, in_stages
from equipoise.models.options import one_of, positive, probability
from equipoise.types import ModelError, UsageError


class Transformer(Encoder):
    """Small pre-norm transformer for sequences, averaged over the steps.

    Args:
        in_features: features `d` of each step of the input `[B, T, d]`.
        width: width of the model, which is `out_features`.
        layers: number of layers; the feed-forward part of each is four times as wide as the model.
        heads: attention heads; must divide `width`.
        dropout: probability of dropping, in training.
        positions: `sinusoidal` (any length) or `learned`.
        max_length: longest sequence with `learned` positions; `for_shape` takes the `T` of the shape.

    Raises:
        UsageError: an impossible option.
    """

    name: ClassVar[str] = "transformer"
    kinds: ClassVar[tuple[str, ...]] = ("sequence",)
    channel_dim: ClassVar[int | None] = -1

    def __init__(
        self,
        in_features: int,
        *,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        positions: str = "sinusoidal",
        max_length: int | None = None,
    ) -> None:
        super().__init__(in_features)
        width, heads = positive("width", width), positive("heads", heads)
        rate = probability("dropout", dropout)
        if width % heads:
            raise UsageError(f"option 'heads' must divide 'width'; found {heads} heads for width {width}.")
        self.projection = nn.Linear(in_features, width)
        self.positions: nn.Parameter | None = None
        if one_of("positions", positions, ("sinusoidal", "learned")) == "learned":
            table = torch.empty(positive("max_length", max_length), width)
            self.positions = nn.Parameter(table)
            self.reset_parameters()
        # nn.TransformerEncoder would clone one layer and so start every layer from the same weights.
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, heads, 4 * width, rate, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(positive("layers", layers))
            )
        )
        self.norm = nn.LayerNorm(width)
        self.stage_widths = (width,) * len(self.layers)
        self.out_features = width

    def reset_parameters(self) -> None:
        """Draw the learned positions anew."""
        if self.positions is not None:
            nn.init.normal_(self.positions, std=0.02)

    @classmethod
    def _build(cls, shape: tuple[int, ...], kind: str, options: dict[str, Any]) -> Self:
        return super()._build(shape, kind, {"max_length": shape[0], **options})

    def stages(self, x: Tensor) -> Stages:
        """Encode sequences: `[B, T, d]` to `[B, out_features]`, with a stage `[B, T, width]` for each layer.

        Raises:
            ModelError: the sequence is longer than the learned positions.
        """
        steps = self.projection(x)
        steps = yield from in_stages(self.layers, len(self.layers), steps + self._positions(steps))
        pooled: Tensor = self.norm(steps).mean(dim=1)
        return pooled

    def _positions(self, steps: Tensor) -> Tensor:
        length, width = steps.shape[1:]
        if self.positions is None:
            return sinusoids(length, width, steps.device).to(steps.dtype)
        if length > len(self.positions):
            raise ModelError(
                f"encoder 'transformer' has learned {len(self.positions)} positions and cannot read "
                f"{length} steps; build it with a larger max_length or with positions='sinusoidal'."
            )
        return self.positions[:length]


def sinusoids(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return fixed positions `[length, width]`, section 3.5 of the paper.

    Column `2i` holds `sin(t / 10000^(2i / width))` and column `2i + 1` the cosine of the same angle.
    """
    column = torch.arange(width, device=device)
    frequency = torch.pow(10000.0, -(column - column % 2) / width)
    angle = torch.arange(length, device=device)[:, None] * frequency
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())
