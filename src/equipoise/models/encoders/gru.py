"""Bidirectional GRU of sequences (Cho et al., EMNLP 2014, arXiv 1406.1078)."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, cast

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
            gru = cast("nn.GRU", layer)
            steps = gru(steps)[0] if padding is None else _without_padding(gru, steps, padding)
            steps = yield steps
            if number + 1 < len(self.layers):
                steps = self.dropout(steps)
        return masked_mean(steps, padding)


def _without_padding(layer: nn.GRU, steps: Tensor, padding: Tensor) -> Tensor:
    """Run a layer over the steps `[B, T, d]` that are not padding; the others become 0."""
    kept = ~padding
    length = kept.sum(dim=1)
    order = _kept_first(kept)
    front = steps.gather(1, order[:, :, None].expand_as(steps))
    if torch.compiler.is_exporting():
        read = _read_aligned(layer, front, length)
        return torch.zeros_like(read).scatter(1, order[:, :, None].expand_as(read), read)
    packed = pack_padded_sequence(front, length.cpu(), batch_first=True, enforce_sorted=False)
    read, _ = pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=steps.shape[1])
    return torch.zeros_like(read).scatter(1, order[:, :, None].expand_as(read), read)


def _kept_first(kept: Tensor) -> Tensor:
    """Return the order `[B, T]` of steps in which those that are kept come first, each group in its order."""
    before, others = kept.long().cumsum(dim=1), (~kept).long().cumsum(dim=1)
    place = torch.where(kept, before, before[:, -1:] + others) - 1
    steps = torch.arange(kept.shape[1], device=kept.device).expand_as(place)
    return torch.zeros_like(place).scatter(1, place, steps)


def _read_aligned(layer: nn.GRU, front: Tensor, length: Tensor) -> Tensor:
    """Run a layer over sequences `[B, T, d]` of which the first `length` `[B]` steps count.

    An exported program knows no packed sequences. The second direction reads each sequence in reverse, with
    its padding still at the end.
    """
    place = torch.arange(front.shape[1], device=front.device)[None, :]
    kept = place < length[:, None]
    turned = torch.where(kept, length[:, None] - 1 - place, place)[:, :, None]
    start = front.new_zeros(1, front.shape[0], layer.hidden_size)
    found = []
    for direction in ("", "_reverse"):
        weights = [getattr(layer, f"{name}_l0{direction}") for name in ("weight_ih", "weight_hh")]
        weights += [getattr(layer, f"{name}_l0{direction}") for name in ("bias_ih", "bias_hh")]
        read = front.gather(1, turned.expand_as(front)) if direction else front
        steps = torch.gru(read, start, weights, True, 1, 0.0, False, False, True)[0]
        found.append(steps.gather(1, turned.expand_as(steps)) if direction else steps)
    return torch.cat(found, dim=2).masked_fill(~kept[:, :, None], 0.0)
