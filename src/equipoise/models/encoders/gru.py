"""Bidirectional GRU of sequences (Cho et al., EMNLP 2014, arXiv 1406.1078)."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from equipoise.models.dropout import Dropout
from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.stages import MASKS, Stages, masked_mean
from equipoise.models.options import one_of, positive, probability


class GRU(Encoder):
    """Gated recurrent units that read a sequence in both directions, averaged over the steps.

    Args:
        in_features: features `d` of each step of the input `[B, T, d]`.
        width: units of each direction; `out_features` is twice as many.
        layers: number of layers.
        dropout: probability of dropping a unit between layers.
        mask: see `MASKS`. Neither direction reads padding.
    """

    name: ClassVar[str] = "gru"
    kinds: ClassVar[tuple[str, ...]] = ("sequence",)
    channel_dim: ClassVar[int | None] = -1

    def __init__(
        self,
        in_features: int,
        *,
        width: int = 64,
        layers: int = 1,
        dropout: float = 0.1,
        mask: str = "none",
    ) -> None:
        super().__init__(in_features)
        self.mask = one_of("mask", mask, MASKS)
        self.out_features = 2 * positive("width", width)
        self.stage_widths = (self.out_features,) * positive("layers", layers)
        self.layers = nn.ModuleList(
            nn.GRU(before, width, batch_first=True, bidirectional=True)
            for before, _ in pairwise((in_features, *self.stage_widths))
        )
        self.dropout = Dropout(probability("dropout", dropout))

    def stages(self, x: Tensor) -> Stages:
        """Encode sequences: `[B, T, d]` to `[B, out_features]`, with a stage `[B, T, d]` for each layer."""
        padding, steps = self.padding(x), x
        for number, layer in enumerate(self.layers):
            steps = layer(steps)[0] if padding is None else _without_padding(layer, steps, padding)
            steps = yield steps
            if number + 1 < len(self.layers):
                steps = self.dropout(steps)
        return masked_mean(steps, padding)


def _without_padding(layer: nn.Module, steps: Tensor, padding: Tensor) -> Tensor:
    """Run a layer over the steps `[B, T, d]` that are not padding; the others become 0."""
    kept = ~padding
    length = kept.sum(dim=1)
    # A stable sort moves the steps that are kept to the front, in their order.
    order = padding.long().sort(dim=1, stable=True).indices
    front = steps.take_along_dim(order[:, :, None], dim=1)
    packed = pack_padded_sequence(front, length.cpu(), batch_first=True, enforce_sorted=False)
    read, _ = pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=steps.shape[1])
    return torch.zeros_like(read).scatter(1, order[:, :, None].expand_as(read), read)
