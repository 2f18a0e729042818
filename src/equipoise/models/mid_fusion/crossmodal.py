"""Multimodal transformer with crossmodal attention (MulT: Tsai et al., ACL 2019, arXiv 1906.00295)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from equipoise.models.dropout import Dropout
from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.stages import unchanged
from equipoise.models.encoders.transformer import attend_in_stages, checked_heads, transformer_layers
from equipoise.models.mid_fusion.lockstep import LockstepModel, widths_at
from equipoise.models.options import positive, probability
from equipoise.types import ModelError


class CrossmodalLayer(nn.Module):
    """A layer in which the steps of one modality attend to those of another.

    `x <- x + Attention(q = LN(x), k = v = LN(y))`, then `x <- x + FF(LN(x))`: pre-norm, with the same
    normalisation for both inputs of the attention and a feed-forward part four times as wide.

    Args:
        width: width of both modalities' steps.
        heads: attention heads; must divide `width`.
        dropout: probability of dropping, in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.norm_forward = nn.LayerNorm(width)
        self.forward_layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor | None, padding: Tensor | None = None) -> Tensor:
        """Return the steps `x [B, T, width]` after they attended to `y [B, S, width]`.

        None as `y` skips the attention; `padding [B, S]` (bool) is True at steps of `y` to ignore.
        """
        if y is not None:
            source = self.norm(y)
            found, _ = self.attention(
                self.norm(x), source, source, key_padding_mask=padding, need_weights=False
            )
            x = x + self.dropout(found)
        changed: Tensor = x + self.dropout(self.forward_layers(self.norm_forward(x)))
        return changed


class Target(nn.Module):
    """Computes the map of one modality: crossmodal transformers, self-attention, projection.

    Args:
        sources: the other modalities, in the model's order.
        channels: of the returned map.
        width: see `CrossmodalModel`, as for the other options.
        layers: of each crossmodal transformer.
        self_layers: of the self-attention transformer, of width `len(sources) * width`.
        heads: attention heads.
        dropout: probability of dropping.
    """

    def __init__(
        self,
        sources: Sequence[str],
        channels: int,
        *,
        width: int,
        layers: int,
        self_layers: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.sources = tuple(sources)
        self.crossmodal = nn.ModuleList(
            nn.ModuleList(CrossmodalLayer(width, heads, dropout) for _ in range(layers)) for _ in sources
        )
        joined = len(sources) * width
        self.self_attention = transformer_layers(joined, self_layers, heads, dropout)
        self.norm = nn.LayerNorm(joined)
        self.projection = nn.Linear(joined, channels)

    def forward(self, own: Tensor, others: Mapping[str, Tensor], padding: Mapping[str, Tensor]) -> Tensor:
        """Return the steps `[B, T, channels]` of the target.

        Args:
            own: its steps `[B, T, width]`.
            others: steps `[B, T_n, width]` of the sources that are present.
            padding: modality to `[B, T_n]` (bool); the target's own under the key `""`.
        """
        streams = []
        for source, layers in zip(self.sources, self.crossmodal, strict=True):
            x = own
            for layer in cast("nn.ModuleList", layers):
                # Every layer reads the original source, not its changed steps (section 3.2).
                x = layer(x, others.get(source), padding.get(source))
            streams.append(x)
        joined = unchanged(attend_in_stages(self.self_attention, torch.cat(streams, dim=2), padding.get("")))
        steps: Tensor = self.projection(self.norm(joined))
        return steps


class Crossing(nn.Module):
    """The block after the last stages of the encoders: adds the crossmodal signals to their maps.

    The positions of a map, in all frames of a video, are the steps of its modality.

    Args:
        widths: modality to channels of its map.
        dims: modality to the channel dimension of its map.
        width: width `d` in which modalities attend to each other.
        target: makes the `Target` of a modality from the other modalities and the channels of its map.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        dims: Mapping[str, int],
        width: int,
        target: Callable[[Sequence[str], int], Target],
    ) -> None:
        super().__init__()
        self.widths, self.dims = dict(widths), dict(dims)
        # By position: a modality may have a name that is not valid for an nn.ModuleDict.
        self.projections = nn.ModuleList(nn.Linear(d, width, bias=False) for d in widths.values())
        self.targets = nn.ModuleList(target([n for n in widths if n != m], d) for m, d in widths.items())

    def forward(
        self, maps: Mapping[str, Tensor], batch_size: int, padding: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the changed maps of the given modalities; missing ones send no signals."""
        steps = {
            m: projection(self._steps(m, maps[m], batch_size))
            for m, projection in zip(self.widths, self.projections, strict=True)
            if m in maps
        }
        changed = {}
        for m, target in zip(self.widths, self.targets, strict=True):
            if m in maps:
                masks = {**padding, "": padding[m]} if m in padding else padding
                found = target(steps[m], {n: x for n, x in steps.items() if n != m}, masks)
                changed[m] = maps[m] + self._map(m, found, maps[m])
        return changed

    def _steps(self, modality: str, h: Tensor, batch_size: int) -> Tensor:
        last = h.movedim(self.dims[modality], -1)
        return last.reshape(batch_size, -1, self.widths[modality])

    def _map(self, modality: str, steps: Tensor, like: Tensor) -> Tensor:
        dim = self.dims[modality]
        return steps.reshape(like.movedim(dim, -1).shape).movedim(-1, dim)


class CrossmodalModel(LockstepModel):
    """Encoders followed by attention of every modality to every other one (MulT), and a late fusion.

    Each encoder runs its layers. Its map is projected to `width` and attends to the map of each other
    modality through a separate crossmodal transformer. The results are concatenated, pass through a
    self-attention transformer, are projected back to the channels of the map and added to it, and the encoder
    pools the sum. Unlike in the paper, features are projected back and added: they keep the width of the
    plain encoder for any number of modalities, so that references and heads of other methods fit, and without
    the addition training by SGD at usual learning rates was unstable. In the paper the encoders are only
    projections; here any encoder that runs stage by stage can be used, with its own positions. In a forward
    pass without some modalities, the attention to them is skipped.

    For the other arguments see `LockstepModel`.

    Args:
        width: width in which modalities attend to each other.
        layers: layers of each crossmodal transformer.
        self_layers: layers of the self-attention transformer of each modality.
        heads: attention heads; must divide `width`.
        dropout: probability of dropping, in training.

    Raises:
        ModelError: see `LockstepModel`.
        UsageError: an option is invalid.
    """

    name: ClassVar[str] = "mult"
    late: ClassVar[tuple[str, Mapping[str, object]]] = ("concat", {})

    block_kind: ClassVar[type[nn.Module]] = Crossing

    def new_blocks(
        self,
        encoders: Mapping[str, Encoder],
        *,
        width: int = 64,
        layers: int = 2,
        self_layers: int = 1,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> list[nn.Module]:
        """Return the one block, after the last stages."""
        width, heads = checked_heads(width, heads)
        target = partial(
            Target,
            width=width,
            layers=positive("layers", layers),
            self_layers=positive("self_layers", self_layers),
            heads=heads,
            dropout=probability("dropout", dropout),
        )
        dims = {m: encoder.channel_dim or 1 for m, encoder in encoders.items()}
        return [Crossing(widths_at(encoders, -1), dims, width, target)]

    def _check_blocks(self, encoders: Mapping[str, Encoder]) -> None:
        if len(self.block_list) != 1:
            raise ModelError(f"found {len(self.block_list)} blocks; expected one, after the last stages.")
        super()._check_blocks(encoders)
