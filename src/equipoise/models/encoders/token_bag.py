"""Bag-of-words encoder of tokens (fastText: Joulin et al., EACL 2017, arXiv 1607.01759)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from equipoise.models.dropout import Dropout
from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.stages import Stages
from equipoise.models.encoders.token_transformer import padded, token_ids
from equipoise.models.options import positive, probability


class TokenBag(Encoder):
    """Embedding of each token, summed without regard to order, and divided by the root of their number.

    It has nothing to learn but the embeddings, which suits sets of a few thousand texts. The root keeps the
    scale of the sum of independent embeddings, whatever the length. 0 is padding.

    Args:
        in_features: 1, the size of each step of the input `[B, T]`.
        vocabulary: number of different tokens, including 0.
        width: size of an embedding; this is `out_features`.
        dropout: probability of dropping a token of a text in training, and a unit of the sum.
    """

    name: ClassVar[str] = "token-bag"
    kinds: ClassVar[tuple[str, ...]] = ("tokens",)
    channel_dim: ClassVar[int | None] = -1

    def __init__(
        self, in_features: int = 1, *, vocabulary: int = 8192, width: int = 128, dropout: float = 0.5
    ) -> None:
        super().__init__(in_features)
        self.vocabulary = positive("vocabulary", vocabulary)
        self.out_features = positive("width", width)
        self.stage_widths = (self.out_features,)
        self.embedding = nn.Embedding(self.vocabulary, self.out_features, padding_idx=0)
        with torch.no_grad():
            self.embedding.weight.mul_(self.out_features**-0.5)  # an embedding of length 1
        self.rate = probability("dropout", dropout)
        self.dropout = Dropout(self.rate)

    def padding(self, x: Tensor) -> Tensor:
        """Return which steps are padding, `[B, T]` (bool)."""
        return padded(x)

    def stages(self, x: Tensor) -> Stages:
        """Encode texts: `[B, T]` to `[B, out_features]`, with one stage `[B, T, out_features]`."""
        ids = token_ids(x, self.vocabulary, self.name, "vocabulary")
        steps = yield self.embedding(ids)
        kept = ~padded(x)
        if self.training and self.rate:
            kept &= torch.rand(kept.shape, device=kept.device) >= self.rate
        weights = kept.to(steps.dtype)
        count = weights.sum(dim=1, keepdim=True).clamp(min=1)
        feature: Tensor = self.dropout((steps * weights[:, :, None]).sum(dim=1) / count.sqrt())
        return feature
