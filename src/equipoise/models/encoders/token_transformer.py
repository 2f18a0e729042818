"""Transformer encoder of tokens: words or word pieces of a text."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from equipoise.models.encoders.stages import with_one_step
from equipoise.models.encoders.transformer import AttentionEncoder, checked_heads, sinusoids
from equipoise.models.options import positive, probability
from equipoise.types import ModelError


class TokenTransformer(AttentionEncoder):
    """Embedding and small pre-norm transformer for tokens, averaged over those that are not padding.

    0 is padding, which other tokens ignore. Of an empty text, only the first step is read; all such texts
    thus have the same feature.

    Args:
        in_features: 1, the size of each step of the input `[B, T]`.
        vocabulary: number of different tokens, including 0.
        width: see `AttentionEncoder`, as for `layers`, `heads` and `dropout`.
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
        self.add_layers(width, layers, heads, probability("dropout", dropout))

    def tokens(self, x: Tensor) -> Tensor:
        """Return the embeddings `[B, T, width]` of tokens `[B, T]` of any type, with their positions.

        Raises:
            ModelError: a number is not in the vocabulary.
        """
        steps = self.embedding(token_ids(x, self.vocabulary, self.name, "vocabulary"))
        length, width = steps.shape[1:]
        embedded: Tensor = steps + sinusoids(length, width, steps.device).to(steps.dtype)
        return embedded

    def padding(self, x: Tensor) -> Tensor:
        """Return which steps are padding, `[B, T]` (bool)."""
        return padded(x)


def padded(x: Tensor) -> Tensor:
    """Return which of the tokens `[B, T]` are padding (bool): zeros, except the first of an empty text."""
    return with_one_step(x == 0)


def token_ids(x: Tensor, vocabulary: int, encoder: str, option: str) -> Tensor:
    """Return tokens `[B, T]` as int64; see `refuse_unknown`, which an exported program leaves out."""
    ids = x.long()
    if torch.compiler.is_exporting():
        return ids
    low, high = (int(value) for value in torch.aminmax(ids))
    refuse_unknown(low, high, vocabulary, encoder, option)
    return ids


def refuse_unknown(low: int, high: int, vocabulary: int, encoder: str, option: str) -> None:
    """Raise ModelError if the smallest or the largest token is not in `[0, vocabulary)`."""
    if low < 0 or high >= vocabulary:
        raise ModelError(
            f"encoder {encoder!r} has the tokens 0 to {vocabulary - 1}; found {low if low < 0 else high}: "
            f"set the option {option!r} to a number above the largest token of the data."
        )
