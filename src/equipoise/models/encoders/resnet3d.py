"""R(2+1)D-18 for video (Tran, Wang, Torresani, Ray, LeCun, Paluri, CVPR 2018, arXiv 1711.11248)."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from torch import Tensor, nn

from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.resnet import STEMS, ResidualBlock, draw_convolutions, stem_for
from equipoise.models.encoders.stages import Stages
from equipoise.models.options import one_of, positive


class ResNet3D18(Encoder):
    """ResNet-18 whose 3x3x3 convolutions are split into one over the frame and one over time.

    Between the two are as many channels as give the pair the parameters of the whole convolution (section
    3.5 of the paper). The `imagenet` stem has a 7x7 convolution of stride 2 over frames, the `small` one 3x3
    of stride 1. Groups two to four halve length and sides; the feature is the mean over all places.

    Args:
        in_features: channels `C` of the input `[B, T, C, H, W]`.
        width: channels of the first group, 64 in the paper; `out_features` is eight times as many.
        stem: see above; `auto`, only with `for_shape`, is `small` if the shorter side has fewer than 64
            pixels.
    """

    name: ClassVar[str] = "r2plus1d-18"
    kinds: ClassVar[tuple[str, ...]] = ("video",)
    channel_dim: ClassVar[int | None] = 1

    def __init__(self, in_features: int, *, width: int = 64, stem: str = "imagenet") -> None:
        super().__init__(in_features)
        width = positive("width", width)
        small = one_of("stem", stem, STEMS[1:]) == "small"
        between = 45 * width // 64 or 1  # 45 in the published stem, whose width is 64
        self.stem = nn.Sequential(
            _over_frames(in_features, between, 3 if small else 7, 1 if small else 2),
            nn.BatchNorm3d(between),
            nn.ReLU(),
            _over_time(between, width, 1),
            nn.BatchNorm3d(width),
            nn.ReLU(),
        )
        self.stage_widths = (width, 2 * width, 4 * width, 8 * width)
        groups = zip((width, *self.stage_widths), self.stage_widths, (1, 2, 2, 2), strict=False)
        self.groups = nn.ModuleList(
            nn.Sequential(SplitBlock(before, after, stride), SplitBlock(after, after, 1))
            for before, after, stride in groups
        )
        self.out_features = 8 * width
        draw_convolutions(self)

    @classmethod
    def _build(cls, shape: tuple[int, ...], kind: str, options: dict[str, Any]) -> Self:
        return super()._build(shape, kind, {**options, "stem": stem_for(shape, options)})

    def stages(self, x: Tensor) -> Stages:
        """Encode videos: `[B, T, C, H, W]` to `[B, out_features]`, with a stage for each group."""
        maps = self.stem(x.transpose(1, 2))
        for group in self.groups:
            maps = yield group(maps)
        feature: Tensor = maps.mean(dim=(2, 3, 4))
        return feature


class SplitBlock(ResidualBlock):
    """Two convolutions, each split into frame and time, with a shortcut, on maps `[B, C, T, H, W]`."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        between = 27 * before * after // (9 * before + 3 * after)  # section 3.5, for t = d = 3
        self.conv1 = _split(before, after, between, stride)
        self.bn1 = nn.BatchNorm3d(after)
        self.conv2 = _split(after, after, between, 1)
        self.bn2 = nn.BatchNorm3d(after)
        self.downsample = nn.Identity()
        if stride != 1 or before != after:
            projection = nn.Conv3d(before, after, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm3d(after))


def _split(before: int, after: int, between: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _over_frames(before, between, 3, stride),
        nn.BatchNorm3d(between),
        nn.ReLU(),
        _over_time(between, after, stride),
    )


def _over_frames(before: int, after: int, size: int, stride: int) -> nn.Conv3d:
    pads = (0, size // 2, size // 2)
    return nn.Conv3d(before, after, (1, size, size), (1, stride, stride), pads, bias=False)


def _over_time(before: int, after: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(before, after, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False)
