"""ResNet-18 for images, spectrograms and video frames (He, Zhang, Ren, Sun, CVPR 2016, arXiv 1512.03385)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.models.encoders.base import FrameEncoder
from equipoise.models.encoders.stages import Stages
from equipoise.models.options import one_of, positive

STEMS = ("auto", "imagenet", "small")
SMALL_IMAGE = 64


class ResNet18(FrameEncoder):
    """ResNet-18 without its classifier, for any number of channels; averages over the frames of a video.

    The `imagenet` stem is that of the paper: a 7x7 convolution and a 3x3 max-pooling, both of stride 2; the
    last map has 1/32 of each side. The `small` stem is one 3x3 convolution of stride 1; the last map has 1/8.
    Parameters have the names of published ImageNet checkpoints (`conv1`, `layer1.0.bn2`, ...).

    Args:
        in_features: channels `C` of the input `[B, C, H, W]` or `[B, T, C, H, W]`.
        width: channels of the first stage, 64 in the paper; `out_features` is eight times as many.
        stem: `imagenet` or `small`; `auto`, only with `for_shape`, is `small` if the shorter side has fewer
            than 64 pixels.
    """

    name: ClassVar[str] = "resnet18"
    channel_dim: ClassVar[int | None] = 1

    def __init__(self, in_features: int, *, width: int = 64, stem: str = "imagenet") -> None:
        super().__init__(in_features)
        width = positive("width", width)
        self.small = one_of("stem", stem, STEMS[1:]) == "small"
        self.channels_last = not self.small
        size, stride, padding = (3, 1, 1) if self.small else (7, 2, 3)
        self.conv1 = nn.Conv2d(in_features, width, size, stride=stride, padding=padding, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, stride=2)
        self.stage_widths = (width, 2 * width, 4 * width, 8 * width)
        self.out_features = 8 * width
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the convolutions; see `draw_convolutions`."""
        draw_convolutions(self)

    @classmethod
    def _build(cls, shape: tuple[int, ...], kind: str, options: dict[str, Any]) -> Self:
        return super()._build(shape, kind, {**options, "stem": stem_for(shape, options)})

    def image_stages(self, x: Tensor) -> Stages:
        """Encode images: `[B, C, H, W]` to `[B, out_features]`, with a stage for each of the four groups."""
        maps = F.relu(self.bn1(self.conv1(x)))
        if not self.small:
            maps = F.max_pool2d(maps, kernel_size=3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps = yield stage(maps)
        return maps.mean(dim=(2, 3))


class ResidualBlock(nn.Module):
    """Two convolutions with a shortcut: `relu(F(x) + x)`, equation 1 of the paper.

    A subclass sets the layers; `downsample` is the shortcut.
    """

    conv1: nn.Module
    bn1: nn.Module
    conv2: nn.Module
    bn2: nn.Module
    downsample: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Return the next map; its sides are those of the last one divided by the stride."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        maps: Tensor = F.relu(residual + self.downsample(x))
        return maps


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions with a shortcut, on maps `[B, C, H, W]`.

    If the shape changes, the shortcut is a 1x1 convolution (equation 2, option B).
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = nn.Identity()
        if stride != 1 or before != after:
            projection = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(after))


def stem_for(shape: Sequence[int], options: Mapping[str, Any]) -> str:
    """Return the stem for samples of a shape that ends in height and width, with `auto` resolved."""
    stem = one_of("stem", options.get("stem", "auto"), STEMS)
    return stem if stem != "auto" else "small" if min(shape[-2:]) < SMALL_IMAGE else "imagenet"


def draw_convolutions(network: nn.Module) -> None:
    """Draw the weights of all convolutions (He et al. 2015, mode `fan_out`)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _stage(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(before, after, stride), BasicBlock(after, after, 1))
