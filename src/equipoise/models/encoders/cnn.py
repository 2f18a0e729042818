"""Small convolutional encoder of images and video frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from equipoise.models.encoders.base import FrameEncoder
from equipoise.models.encoders.stages import Stages, in_stages
from equipoise.models.options import positive_sizes


class CNN(FrameEncoder):
    """Small convolutional network with batch normalisation; averages over the frames of a video.

    One block per entry of `channels`: 3x3 convolution, batch normalisation, ReLU, 2x2 max-pooling. Pooling
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
        maps = yield from in_stages(self.layers, len(self.stage_widths), x)
        return maps.mean(dim=(2, 3))


def convolutions(in_features: int, widths: Sequence[int]) -> nn.Sequential:
    """Return the blocks of `CNN`: four layers for each width."""
    layers: list[nn.Module] = []
    for before, after in pairwise((in_features, *widths)):
        # No bias: batch normalisation would subtract it with the mean.
        layers += [nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(after)]
        layers += [nn.ReLU(), nn.MaxPool2d(kernel_size=2, ceil_mode=True)]
    return nn.Sequential(*layers)
