"""Convolutional encoder of video that keeps the layout of frames and their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.models.dropout import Dropout
from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.cnn import channels_last, check_size, convolutions, grid_of
from equipoise.models.encoders.gru import GRU
from equipoise.models.encoders.stages import Stages, in_stages, unchanged
from equipoise.models.encoders.tcn import TemporalCNN
from equipoise.models.encoders.transformer import Transformer
from equipoise.models.options import one_of, positive, positive_sizes, probability
from equipoise.types import UsageError

OVER_TIME: Mapping[str, Callable[..., Encoder]] = {"tcn": TemporalCNN, "gru": GRU, "attention": Transformer}


class FrameCNN(Encoder):
    """Small convolutional network on each frame, whose flattened maps are read in order over time.

    A mean over all pixels and frames would lose where something is and when. Here the last map of a frame is
    pooled to at most `grid` x `grid` places and flattened; a linear layer makes it one step of a sequence.

    Args:
        in_features: channels `C` of the input `[B, T, C, H, W]`.
        size: height and width of the frames; `for_shape` uses those of the shape.
        channels: channels of each block of the network on frames; see `CNN`.
        grid: maximum number of places along each side.
        width: features of a step, and of the result; an even number.
        over_time: `tcn` (dilated convolutions), `gru` (bidirectional), or `attention`.
        depth: blocks or layers over time.
        dropout: probability of dropping a value of a flattened map, and a unit in the part over time.
    """

    name: ClassVar[str] = "frame-cnn"
    kinds: ClassVar[tuple[str, ...]] = ("video",)
    channel_dim: ClassVar[int | None] = 1

    def __init__(
        self,
        in_features: int,
        *,
        size: Sequence[int],
        channels: Sequence[int] = (16, 32, 64),
        grid: int = 4,
        width: int = 128,
        over_time: str = "tcn",
        depth: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(in_features)
        self.size = positive_sizes("size", size)
        self.stage_widths = positive_sizes("channels", channels)
        self.layers = convolutions(in_features, self.stage_widths)
        sides = [-(-side // 2 ** len(self.stage_widths)) for side in self.size]
        self.window, places = grid_of(sides, (positive("grid", grid),) * 2)
        rate, depth = probability("dropout", dropout), positive("depth", depth)
        if positive("width", width) % 2:
            raise UsageError(f"option 'width' must be even; found {width}.")
        self.dropout = Dropout(rate)
        self.projection = nn.Linear(self.stage_widths[-1] * places, width)
        kind = one_of("over_time", over_time, tuple(OVER_TIME))
        options = {"blocks" if kind == "tcn" else "layers": depth, "dropout": rate}
        # The other two give twice their width: two directions, or a mean and a maximum.
        self.over_time = OVER_TIME[kind](width, width=width if kind == "attention" else width // 2, **options)
        self.out_features = self.over_time.out_features

    @classmethod
    def _build(cls, shape: tuple[int, ...], kind: str, options: dict[str, Any]) -> Self:
        return super()._build(shape, kind, {"size": shape[-2:], **options})

    def stages(self, x: Tensor) -> Stages:
        """Encode videos: `[B, T, C, H, W]` to `[B, out_features]`, with a stage for each block on frames.

        Raises:
            ModelError: the frames have another size.
        """
        check_size(self, x.shape[-2:], self.size)
        frames = channels_last(x.flatten(0, 1))
        maps = yield from in_stages(self.layers, len(self.stage_widths), frames)
        maps = F.avg_pool2d(maps, self.window, ceil_mode=True, count_include_pad=False)
        steps = self.projection(self.dropout(maps.flatten(1))).reshape(*x.shape[:2], -1)
        return unchanged(self.over_time.stages(steps))
