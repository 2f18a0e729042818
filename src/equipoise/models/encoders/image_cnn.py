"""Convolutional encoder of images and spectrograms that keeps their layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.cnn import convolutions
from equipoise.models.encoders.frame_cnn import check_frames, grid_of
from equipoise.models.encoders.stages import Stages, in_stages
from equipoise.models.options import positive, positive_sizes, probability


class ImageCNN(Encoder):
    """Small convolutional network whose flattened map goes through a linear layer.

    A mean over all pixels, as in `CNN`, would lose at which frequency and when a sound is, or where a stroke
    is. Here the last map is pooled to at most `grid` x `grid` places and flattened.

    Args:
        in_features: channels `C` of the input `[B, C, H, W]`.
        size: height and width of the images; `for_shape` uses those of the shape.
        channels: channels of each block; see `CNN`.
        grid: maximum number of places along each side.
        width: width of the linear layer, which is `out_features`.
        dropout: probability of dropping a value of the flattened map.
    """

    name: ClassVar[str] = "image-cnn"
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    channel_dim: ClassVar[int | None] = 1

    def __init__(
        self,
        in_features: int,
        *,
        size: Sequence[int],
        channels: Sequence[int] = (16, 32, 64),
        grid: int = 8,
        width: int = 128,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(in_features)
        self.size = positive_sizes("size", size)
        self.stage_widths = positive_sizes("channels", channels)
        self.layers = convolutions(in_features, self.stage_widths)
        sides = [-(-side // 2 ** len(self.stage_widths)) for side in self.size]
        self.window, places = grid_of(sides, (positive("grid", grid),) * 2)
        self.dropout = nn.Dropout(probability("dropout", dropout))
        self.projection = nn.Linear(self.stage_widths[-1] * places, positive("width", width), bias=False)
        # Without it, the linear layer over thousands of values of the map barely trains.
        self.norm = nn.BatchNorm1d(width)
        self.out_features = width

    @classmethod
    def _build(cls, shape: tuple[int, ...], kind: str, options: dict[str, Any]) -> Self:
        return super()._build(shape, kind, {"size": shape[-2:], **options})

    def stages(self, x: Tensor) -> Stages:
        """Encode images: `[B, C, H, W]` to `[B, out_features]`, with a stage for each block.

        Raises:
            ModelError: the images have another size.
        """
        check_frames(self, x.shape[-2:], self.size)
        maps = yield from in_stages(self.layers, len(self.stage_widths), x)
        maps = F.avg_pool2d(maps, self.window, ceil_mode=True, count_include_pad=False)
        feature: Tensor = F.relu(self.norm(self.projection(self.dropout(maps.flatten(1)))))
        return feature
