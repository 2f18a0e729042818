"""Small convolutional encoders of images and video frames: with a mean over all pixels, or with layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.models.dropout import Dropout
from equipoise.models.encoders.base import Encoder, FrameEncoder
from equipoise.models.encoders.stages import Stages, in_stages
from equipoise.models.options import positive, positive_sizes, probability
from equipoise.types import ModelError


class CNN(FrameEncoder):
    """Small convolutional network with batch normalisation; averages over the frames of a video.

    One block per entry of `channels`: 3x3 convolution, batch normalisation, 2x2 max-pooling, ReLU. Pooling
    rounds sizes up, so that images of any size are accepted, including 1x1.

    Args:
        in_features: channels `C` of the input `[B, C, H, W]` or `[B, T, C, H, W]`.
        channels: channels of each block; the last number is `out_features`.
    """

    name: ClassVar[str] = "cnn"
    channel_dim: ClassVar[int | None] = 1

    def __init__(self, in_features: int, *, channels: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__(in_features)
        self.stage_widths = positive_sizes("channels", channels)
        self.layers = convolutions(in_features, self.stage_widths)
        self.out_features = self.stage_widths[-1]

    def image_stages(self, x: Tensor) -> Stages:
        """Encode images: `[B, C, H, W]` to `[B, out_features]`, with a stage for each block."""
        maps = yield from in_stages(self.layers, len(self.stage_widths), channels_last(x))
        return maps.mean(dim=(2, 3))


class LayoutEncoder(Encoder):
    """Base of encoders whose last map is flattened and read by a linear layer, so that its layout counts."""

    def add_head(self, values: int, width: int, dropout: float) -> None:
        """Add the layer that reads maps of so many values; its width is `out_features`."""
        self.dropout = Dropout(probability("dropout", dropout))
        self.projection = nn.Linear(values, positive("width", width), bias=False)
        # Keeps the scale of a sum over thousands of values.
        self.norm = nn.BatchNorm1d(width)
        self.out_features = width

    def read(self, maps: Tensor) -> Tensor:
        """Return the feature `[B, out_features]` of pooled maps `[B, C, ...]`."""
        feature: Tensor = F.relu(self.norm(self.projection(self.dropout(maps.flatten(1)))))
        return feature


class ImageCNN(LayoutEncoder):
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
        self.add_head(self.stage_widths[-1] * places, width, dropout)

    @classmethod
    def _build(cls, shape: tuple[int, ...], kind: str, options: dict[str, Any]) -> Self:
        return super()._build(shape, kind, {"size": shape[-2:], **options})

    def stages(self, x: Tensor) -> Stages:
        """Encode images: `[B, C, H, W]` to `[B, out_features]`, with a stage for each block.

        Raises:
            ModelError: the images have another size.
        """
        check_size(self, x.shape[-2:], self.size)
        maps = yield from in_stages(self.layers, len(self.stage_widths), channels_last(x))
        return self.read(F.avg_pool2d(maps, self.window, ceil_mode=True, count_include_pad=False))


def convolutions(in_features: int, widths: Sequence[int]) -> nn.Sequential:
    """Return the blocks of `CNN`: four layers for each width.

    ReLU comes after the pooling, where it has a quarter of the values to read; the result is the same.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise((in_features, *widths)):
        # No bias: batch normalisation would subtract it with the mean.
        layers += [nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(after)]
        layers += [nn.MaxPool2d(kernel_size=2, ceil_mode=True), nn.ReLU()]
    return nn.Sequential(*layers)


def channels_last(maps: Tensor) -> Tensor:
    """Return maps `[B, C, ...]` with their channels side by side in memory, an order that layers keep.

    On a CPU this halves the time of small convolutions with normalisation and pooling. Wide ones, as in a
    ResNet, are only faster if their weights are in this order, too (`Encoder.channels_last`).
    """
    if maps.device.type != "cpu":
        return maps
    # A copy, because torch takes maps of one channel to be in either order, and would keep the other one.
    return maps.movedim(1, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 1)


def grid_of(sides: Sequence[int], most: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Return the windows that pool a map to at most so many places along each side, and how many are left."""
    windows = tuple(-(-side // places) for side, places in zip(sides, most, strict=True))
    return windows, math.prod(-(-side // window) for side, window in zip(sides, windows, strict=True))


def check_size(encoder: Encoder, found: Sequence[int], built: Sequence[int]) -> None:
    """Raise ModelError if an encoder whose layers depend on the size gets another one."""
    if tuple(found) != tuple(built):
        expected, size = (" x ".join(map(str, one)) for one in (built, found))
        raise ModelError(f"encoder {encoder.name!r} was built for inputs of {expected}; found {size}.")
