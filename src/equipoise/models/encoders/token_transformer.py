"""Transformer encoder of tokens, the words or word pieces of a text."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from equipoise.models.encoders.transformer import (
    AttentionEncoder,
    checked_heads,
    sinusoids,
    transformer_layers,
)
from equipoise.models.options import positive, probability
from equipoise.types import ModelError


class TokenTransformer(AttentionEncoder):
    """Embedding and small pre-norm transformer for tokens, averaged over those that are no padding.

    0 is padding, which no other token reads. A text of nothing but padding reads its first step alone, so
    that it has a feature, the same one for all such texts.

    Args:
        in_features: 1, the number that stands at each step of the input `[B, T]`.
        vocabulary: number of different tokens, 0 among them.
        width: width of the model, which is `out_features`.
        layers: number of layers; the feed-forward part of each is four times as wide as the model.
        heads: attention heads; must divide `width`.
        dropout: probability of dropping, in training.

    Raises:
        UsageError: an impossible option.
    """

    name: ClassVar[str] = "token-transformer"
    kinds: ClassVar[tuple[str, ...]] = ("tokens",)

    def __init__(
        self,
        in_features: int = 1,
        *,
        vocabulary: int = 8192,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(in_features)
        width, heads = checked_heads(width, heads)
        self.vocabulary = positive("vocabulary", vocabulary)
        self.embedding = nn.Embedding(self.vocabulary, width, padding_idx=0)
        self.layers = transformer_layers(width, layers, heads, probability("dropout", dropout))
        self.norm = nn.LayerNorm(width)
        self.stage_widths = (width,) * len(self.layers)
        self.out_features = width

    def tokens(self, x: Tensor) -> Tensor:
        """Return the embeddings `[B, T, width]` of tokens `[B, T]`, with their positions.

        Args:
            x: whole numbers, of any type: a loader may serve them as float32.

        Raises:
            ModelError: a number is none of the vocabulary.
        """
        steps = self.embedding(token_ids(x, self.vocabulary, self.name, "vocabulary"))
        length, width = steps.shape[1:]
        embedded: Tensor = steps + sinusoids(length, width, steps.device).to(steps.dtype)
        return embedded

    def padding(self, x: Tensor) -> Tensor:
        """Return which steps are padding, `[B, T]` (bool)."""
        return padded(x)


def padded(x: Tensor) -> Tensor:
    """Return which of the tokens `[B, T]` are padding (bool): zeros, but for the first of nothing else.

    Attention over no step at all would be 0 / 0.
    """
    padding = x == 0
    return torch.cat([padding[:, :1] & ~padding.all(dim=1, keepdim=True), padding[:, 1:]], dim=1)


def token_ids(x: Tensor, vocabulary: int, encoder: str, option: str) -> Tensor:
    """Return tokens `[B, T]` as int64.

    Raises:
        ModelError: one lies outside `[0, vocabulary)`.
    """
    ids = x.long()
    low, high = (int(value) for value in torch.aminmax(ids))
    if low < 0 or high >= vocabulary:
        raise ModelError(
            f"encoder {encoder!r} knows the tokens 0 to {vocabulary - 1}; found {low if low < 0 else high}: "
            f"give the option {option!r} a number above the largest token of the data."
        )
    return ids
