"""Small 3-D convolutional encoder of video (Tran et al., ICCV 2015, arXiv 1412.0767)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.models.encoders.cnn import LayoutEncoder, channels_last, check_size, grid_of
from equipoise.models.encoders.stages import Stages, in_stages
from equipoise.models.options import positive, positive_sizes


class CNN3D(LayoutEncoder):
    """Convolutions over time, height and width, whose last map keeps the time and the layout of frames.

    One block per entry of `channels`: 3x3x3 convolution, batch normalisation, 2x2 max-pooling of the frames,
    ReLU. The last map is pooled to at most `steps` x `grid` x `grid` places, flattened, and read by a
    linear layer with batch normalisation: a mean over time would lose the order.

    Args:
        in_features: channels `C` of the input `[B, T, C, H, W]`.
        size: length, height and width of the input; `for_shape` uses those of the shape.
        channels: channels of each block.
        steps: maximum number of places over time.
        grid: maximum number of places along each side.
        width: width of the linear layer, which is `out_features`.
        dropout: probability of dropping a value of the flattened map.
    """

    name: ClassVar[str] = "cnn3d"
    kinds: ClassVar[tuple[str, ...]] = ("video",)
    channel_dim: ClassVar[int | None] = 1

    def __init__(
        self,
        in_features: int,
        *,
        size: Sequence[int],
        channels: Sequence[int] = (16, 32, 64),
        steps: int = 12,
        grid: int = 3,
        width: int = 128,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(in_features)
        self.size = positive_sizes("size", size)
        self.stage_widths = positive_sizes("channels", channels)
        layers: list[nn.Module] = []
        for before, after in pairwise((in_features, *self.stage_widths)):
            # No bias: batch normalisation would subtract it with the mean.
            layers += [nn.Conv3d(before, after, kernel_size=3, padding=1, bias=False)]
            layers += [nn.BatchNorm3d(after), nn.MaxPool3d((1, 2, 2), ceil_mode=True), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        sides = (self.size[0], *(-(-side // 2 ** len(self.stage_widths)) for side in self.size[1:]))
        self.window, places = grid_of(sides, (positive("steps", steps), *(positive("grid", grid),) * 2))
        self.add_head(self.stage_widths[-1] * places, width, dropout)

    @classmethod
    def _build(cls, shape: tuple[int, ...], kind: str, options: dict[str, Any]) -> Self:
        return super()._build(shape, kind, {"size": (shape[0], *shape[-2:]), **options})

    def stages(self, x: Tensor) -> Stages:
        """Encode videos: `[B, T, C, H, W]` to `[B, out_features]`, with a stage `[B, C, T, H, W]` a block.

        Raises:
            ModelError: the videos have another size.
        """
        check_size(self, (x.shape[1], *x.shape[-2:]), self.size)
        volumes = channels_last(x.transpose(1, 2))
        maps = yield from in_stages(self.layers, len(self.stage_widths), volumes)
        return self.read(F.avg_pool3d(maps, self.window, ceil_mode=True, count_include_pad=False))
