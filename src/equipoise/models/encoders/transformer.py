"""Transformer encoder of sequences (Vaswani et al., NeurIPS 2017, arXiv 1706.03762)."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.stages import MASKS, Stages, masked_mean
from equipoise.models.options import one_of, positive, probability
from equipoise.types import ModelError, UsageError


class AttentionEncoder(Encoder):
    """Base of the encoders with layers of self-attention over tokens, and a mean over the tokens.

    The constructor of a subclass calls `add_layers`, and the subclass defines `tokens`. Layers read tokens
    that are appended to a map; they must be removed before the feature is pooled.

    The options of all of them are `width` of the model, which is `out_features`; the number of `layers`,
    whose feed-forward part is four times as wide; attention `heads`, which must divide `width`; and
    `dropout`, the probability of dropping, in training.
    """

    channel_dim: ClassVar[int | None] = -1
    layers: nn.Sequential
    norm: nn.LayerNorm

    def add_layers(self, width: int, layers: int, heads: int, dropout: float) -> None:
        """Create the layers and the final normalisation; see `transformer_layers`."""
        self.layers = transformer_layers(width, layers, heads, dropout)
        self.norm = nn.LayerNorm(width)
        self.stage_widths = (width,) * len(self.layers)
        self.out_features = width

    def tokens(self, x: Tensor) -> Tensor:
        """Return the input of the first layer: `[B, T, width]`.

        Raises:
            ModelError: the class does not define it.
        """
        raise self._lacks("tokens", "tokens")

    def stages(self, x: Tensor) -> Stages:
        """Encode a batch to `[B, out_features]`, with a stage `[B, T, width]` for each layer."""
        return (yield from self._attend(self.tokens(x), self.padding(x)))

    def stages_from_tokens(self, x: Tensor) -> Stages:
        """Encode a batch like `stagewise`, with an additional first stage before any layer."""
        self._check_input(x)
        tokens = yield self.tokens(x)
        return (yield from self._attend(tokens, self.padding(x)))

    def _attend(self, tokens: Tensor, padding: Tensor | None) -> Stages:
        steps = yield from attend_in_stages(self.layers, tokens, padding)
        return masked_mean(self.norm(steps), padding)


class Transformer(AttentionEncoder):
    """Small pre-norm transformer for sequences, averaged over the steps.

    Args:
        in_features: features `d` of each step of the input `[B, T, d]`.
        width: see `AttentionEncoder`, as for `layers`, `heads` and `dropout`.
        positions: `sinusoidal` (any length) or `learned`.
        max_length: maximum length with `learned` positions; `for_shape` uses the `T` of the shape.
        mask: see `MASKS`.
    """

    name: ClassVar[str] = "transformer"
    kinds: ClassVar[tuple[str, ...]] = ("sequence",)

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
        mask: str = "none",
    ) -> None:
        super().__init__(in_features)
        width, heads = checked_heads(width, heads)
        self.mask = one_of("mask", mask, MASKS)
        rate = probability("dropout", dropout)
        self.projection = nn.Linear(in_features, width)
        self.positions: nn.Parameter | None = None
        if one_of("positions", positions, ("sinusoidal", "learned")) == "learned":
            table = torch.empty(positive("max_length", max_length), width)
            self.positions = nn.Parameter(table)
            self.reset_parameters()
        self.add_layers(width, layers, heads, rate)

    def reset_parameters(self) -> None:
        """Draw the learned positions."""
        if self.positions is not None:
            nn.init.normal_(self.positions, std=0.02)

    @classmethod
    def _build(cls, shape: tuple[int, ...], kind: str, options: dict[str, Any]) -> Self:
        return super()._build(shape, kind, {"max_length": shape[0], **options})

    def tokens(self, x: Tensor) -> Tensor:
        """Return the steps of sequences `[B, T, d]` as `[B, T, width]`, with their positions.

        Raises:
            ModelError: the sequence is longer than the learned positions.
        """
        steps = self.projection(x)
        placed: Tensor = steps + self._positions(steps)
        return placed

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


def checked_heads(width: int, heads: int) -> tuple[int, int]:
    """Return a width and its number of attention heads, or raise UsageError."""
    width, heads = positive("width", width), positive("heads", heads)
    if width % heads:
        raise UsageError(f"option 'heads' must divide 'width'; found {heads} heads for width {width}.")
    return width, heads


def transformer_layers(width: int, layers: int, heads: int, dropout: float) -> nn.Sequential:
    """Return pre-norm layers of self-attention whose feed-forward part is four times as wide as the model."""
    # nn.TransformerEncoder would clone one layer, so that all layers had the same initial weights.
    return nn.Sequential(
        *(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(positive("layers", layers))
        )
    )


def attend_in_stages(layers: nn.Sequential, steps: Tensor, padding: Tensor | None) -> Stages:
    """Run the layers of `transformer_layers`, a stage each, over steps `[B, T, width]`; return the last map.

    The padding `[B, T]` (bool) is True at steps to ignore; steps appended to a map are read.
    """
    for layer in layers:
        mask = padding
        if mask is not None and steps.shape[1] > mask.shape[1]:
            mask = F.pad(mask, (0, steps.shape[1] - mask.shape[1]), value=False)
        steps = yield layer(steps, src_key_padding_mask=mask)
    return steps


def sinusoids(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return fixed positions `[length, width]`, section 3.5 of the paper.

    Column `2i` holds `sin(t / 10000^(2i / width))` and column `2i + 1` the cosine of the same angle.
    """
    column = torch.arange(width, device=device)
    frequency = torch.pow(10000.0, -(column - column % 2) / width)
    angle = torch.arange(length, device=device)[:, None] * frequency
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())
