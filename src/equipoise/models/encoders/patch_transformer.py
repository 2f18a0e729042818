"""Transformer encoder of image patches (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.models.encoders.transformer import AttentionEncoder, checked_heads, sinusoids
from equipoise.models.options import positive, probability
from equipoise.types import UsageError


class PatchTransformer(AttentionEncoder):
    """Small pre-norm transformer over the patches of an image, or of all frames of a video together.

    A side that is not a multiple of the patch is padded with zeros. Positions are sinusoidal: half of the
    width encodes the row, half the column, and for a video the frame is added over the whole width. The
    feature is the mean over the patches, while ViT uses a classification token.

    Args:
        in_features: channels `C` of the input `[B, C, H, W]` or `[B, T, C, H, W]`.
        patch: side of a patch in pixels.
        width: an even number; see `AttentionEncoder`, as for `layers`, `heads` and `dropout`.
    """

    name: ClassVar[str] = "patch-transformer"
    kinds: ClassVar[tuple[str, ...]] = ("image", "video")

    def __init__(
        self,
        in_features: int,
        *,
        patch: int = 16,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(in_features)
        width, heads = checked_heads(width, heads)
        if width % 2:
            raise UsageError(f"option 'width' must be even, for rows and columns; found {width}.")
        self.patch = positive("patch", patch)
        self.projection = nn.Conv2d(in_features, width, self.patch, stride=self.patch)
        self.add_layers(width, layers, heads, probability("dropout", dropout))

    def tokens(self, x: Tensor) -> Tensor:
        """Return the patches of images or videos as `[B, N, width]`, with their positions.

        Patches are ordered by frame, then row, then column.
        """
        frames = x if x.ndim == 5 else x[:, None]
        bottom, right = (-side % self.patch for side in frames.shape[-2:])
        maps = self.projection(F.pad(frames.flatten(0, 1), (0, right, 0, bottom)))
        tokens = maps.flatten(2).transpose(1, 2) + _places(
            self.out_features, maps.shape[2], maps.shape[3], maps.device
        ).to(maps.dtype)
        tokens = tokens.reshape(*frames.shape[:2], *tokens.shape[1:])
        if x.ndim == 5:
            tokens = tokens + sinusoids(x.shape[1], self.out_features, x.device).to(tokens.dtype)[:, None]
        joined: Tensor = tokens.flatten(1, 2)
        return joined


def _places(width: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Return the positions of patches in an image, `[rows * columns, width]`."""
    half = width // 2
    row = sinusoids(rows, half, device)[:, None].expand(-1, columns, -1)
    column = sinusoids(columns, half, device).expand(rows, -1, -1)
    return torch.cat([row, column], dim=2).flatten(0, 1)
