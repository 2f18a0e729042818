"""Fusion bottlenecks between transformers (Nagrani et al., NeurIPS 2021, arXiv 2107.00135)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.stages import Stages
from equipoise.models.encoders.transformer import AttentionEncoder
from equipoise.models.mid_fusion.lockstep import LockstepModel, widths_at
from equipoise.models.options import listed, positive
from equipoise.types import ModelError, UnfitModelError, UsageError


class Bottlenecks(nn.Module):
    """The block that handles the bottleneck tokens between two layers.

    Before the first fused layer, the tokens are appended to those of every modality. After each fused layer
    except the last, the copies of the modalities are replaced by their mean. After the last, they are
    removed.

    Args:
        width: width of the model.
        count: number `B_f` of bottleneck tokens.
        enters: whether this block is before the first fused layer; it then holds the learned tokens.
        leaves: whether this block is after the last one.
    """

    def __init__(self, width: int, count: int, *, enters: bool, leaves: bool) -> None:
        super().__init__()
        self.width, self.count, self.enters, self.leaves = width, count, enters, leaves
        self.tokens: nn.Parameter | None = None
        if enters:
            self.tokens = nn.Parameter(torch.empty(count, width))
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the learned tokens, with the standard deviation 0.02 of ViT."""
        if self.tokens is not None:
            nn.init.normal_(self.tokens, std=0.02)

    def forward(
        self, maps: Mapping[str, Tensor], batch_size: int, padding: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return maps `{m: [B, T_m, width]}` with bottleneck tokens at the end, or without them."""
        if self.leaves:
            return {m: steps[:, : -self.count] for m, steps in maps.items()}
        if self.tokens is not None:
            shared = self.tokens.expand(batch_size, -1, -1)
            return {m: torch.cat([steps, shared.to(steps.dtype)], dim=1) for m, steps in maps.items()}
        shared = torch.stack([steps[:, -self.count :] for steps in maps.values()]).mean(dim=0)
        return {m: torch.cat([steps[:, : -self.count], shared], dim=1) for m, steps in maps.items()}


class BottleneckModel(LockstepModel):
    """Transformers whose last layers exchange signals through a few bottleneck tokens (MBT), and late heads.

    With tokens `z^m` and bottlenecks `f`, a fused layer is `[z^m, f^m] <- Transformer^m([z^m, f])` for every
    modality and then `f <- mean_m f^m` (section 3.2 of the paper). The logits are the mean of those of
    one linear head for each modality. Features are means over the tokens, while the paper uses a
    classification token. In a forward pass without some modalities, the mean is over the others.

    The encoders consist of transformer layers of one width. For the other arguments see `LockstepModel`.

    Args:
        bottlenecks: number of bottleneck tokens.
        fused_layers: number of last layers that read the tokens: at least two, because a modality reads in
            one layer what others wrote in the layer before. 0 is late fusion.

    Raises:
        ModelError: an encoder is not a transformer, has too few layers, or another width.
        UsageError: an option is invalid.
    """

    name: ClassVar[str] = "mbt"

    def new_blocks(
        self, encoders: Mapping[str, Encoder], *, bottlenecks: int = 4, fused_layers: int = 2
    ) -> list[nn.Module]:
        """Return a block before the first fused layer and one after each."""
        fused, count = fused_layers, positive("bottlenecks", bottlenecks)
        if isinstance(fused, bool) or not isinstance(fused, int) or fused < 0 or fused == 1:
            raise UsageError(
                "option 'fused_layers' must be 0 (late fusion) or a whole number of at least 2: a single "
                f"layer with bottlenecks transfers no signal; found {fused!r}."
            )
        if not fused:
            return []
        if short := {m: len(e.stage_widths) for m, e in encoders.items() if len(e.stage_widths) < fused}:
            m, layers = next(iter(short.items()))
            raise UnfitModelError(
                f"modality {m!r}: the encoder has {layers} layers; expected at least {fused} fused "
                "layers: raise its 'layers' or lower 'fused_layers'."
            )
        widths = widths_at(encoders, -1)
        if len(set(widths.values())) > 1:
            raise UnfitModelError(
                f"bottleneck tokens need encoders of equal width; found {widths}: choose one 'width'."
            )
        width = next(iter(widths.values()))
        return [Bottlenecks(width, count, enters=k == 0, leaves=k == fused) for k in range(fused + 1)]

    def _check_block(self, number: int, block: nn.Module, encoders: Mapping[str, Encoder]) -> None:
        expected = set(widths_at(encoders, -1).values())
        if not isinstance(block, Bottlenecks) or expected != {block.width}:
            found = f"{block.width} wide" if isinstance(block, Bottlenecks) else type(block).__name__
            raise ModelError(f"block {number} is {found}; the encoders are {listed(sorted(expected))} wide.")

    def _stages(self, encoder: Encoder, x: Tensor) -> Stages:
        assert isinstance(encoder, AttentionEncoder)
        return encoder.stages_from_tokens(x)

    def _places(self, encoder: Encoder) -> int:
        return len(encoder.stage_widths) + 1

    def _stagewise(self, modality: str, encoder: nn.Module) -> Encoder:
        staged = super()._stagewise(modality, encoder)
        if not isinstance(staged, AttentionEncoder):
            raise UnfitModelError(
                f"modality {modality!r}: encoder {staged.name!r} is not a transformer, which fusion "
                f"bottlenecks ({self.name!r}) need; use transformer, token-transformer or patch-transformer."
            )
        return staged
