"""Augmentation of training batches, random for each sample and epoch, and equal for all methods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from equipoise.data.format.modality import ModalitySpec
from equipoise.data.format.normalize import Normalizer
from equipoise.randomness import derive_seed
from equipoise.typed_options import from_options
from equipoise.types import UsageError

AUGMENTATIONS: Final = ("none", "standard")
_MASKS = 8
"""Maximum number of masks along an axis."""
_DRAWS: Final = 6 + 2 * 2 * _MASKS
_JITTERED: Final = 64
"""Only the first frames of a video, up to this number, may be replaced."""


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Strength of the augmentation; it is off if `crop_area` and `aspect` are 1 and all others 0.

    Attributes:
        crop_area: minimum area of a crop of frames and flow, as a part of the whole; uniform up to 1.
        aspect: maximum ratio by which a crop is stretched.
        flip: probability of mirroring frames and flow left to right.
        jitter: probability that a frame of a video, and the flow at its position, is replaced by a neighbour.
        time_masks: number of masks over time of a spectrogram (SpecAugment; Park et al., Interspeech 2019).
        time_width: maximum width of such a mask, as a part of the length.
        frequency_masks: number of masks over frequency.
        frequency_width: maximum width of such a mask, as a part of the frequencies.
    """

    crop_area: float = 0.5
    aspect: float = 4 / 3
    flip: float = 0.5
    jitter: float = 0.2
    time_masks: int = 2
    time_width: float = 0.1
    frequency_masks: int = 2
    frequency_width: float = 0.1

    def __post_init__(self) -> None:
        for name in ("crop_area", "flip", "jitter", "time_width", "frequency_width"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected a number from 0 to 1.")
        if self.crop_area == 0 or not (math.isfinite(self.aspect) and self.aspect >= 1):
            raise UsageError(
                f"crop_area is {self.crop_area} and aspect {self.aspect}; expected above 0, and at least 1."
            )
        for name in ("time_masks", "frequency_masks"):
            if not 0 <= getattr(self, name) <= _MASKS:
                raise UsageError(f"{name} is {getattr(self, name)}; expected 0 to {_MASKS}.")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> AugmentOptions:
        """Read options by name; for the errors see `from_options`."""
        return from_options(cls, options, "of the augmentation")

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain values."""
        return asdict(self)


class Augmenter:
    """Augments normalised training inputs according to the content of each modality (`ModalitySpec.content`).

    Frames and flow of a sample get the same crop and the same mirroring, so that they stay aligned; mirroring
    inverts the horizontal motion of flow, for which the normalisers give the value of no motion. Masks of
    spectrograms are filled with 0, the mean of the training split (of the sample, if normalised by clip). The
    random numbers of a sample depend only on the seed of the run, its row and the epoch: not on its batch,
    the order, the number of processes or the other modalities.
    """

    def __init__(
        self,
        specs: Mapping[str, ModalitySpec],
        normalizers: Mapping[str, Normalizer],
        options: AugmentOptions,
        seed: int,
    ) -> None:
        self.options, self.seed = options, seed
        self.contents = {name: spec.content for name, spec in specs.items() if spec.content is not None}
        self._still = {
            name: _still(specs[name], normalizers[name])
            for name, content in self.contents.items()
            if content == "flow"
        }

    def __call__(self, inputs: Mapping[str, Tensor], rows: Tensor, epoch: int) -> dict[str, Tensor]:
        """Return augmented inputs; the given ones `[B, ...]`, float32 and normalised, are not changed.

        `rows` `[B]` are those of the samples in the dataset; the epoch counts from 0.
        """
        if not self.contents:
            return dict(inputs)
        draws = self._draws(rows, epoch)
        return {name: self._changed(name, x, draws) for name, x in inputs.items()}

    def _draws(self, rows: Tensor, epoch: int) -> Tensor:
        """Return uniform numbers `[B, _DRAWS + 2 * _JITTERED]`, a stream for each sample."""
        found = torch.empty(len(rows), _DRAWS + 2 * _JITTERED)
        for place, row in enumerate(rows.tolist()):
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "augment", epoch, row))
            torch.rand(found.shape[1], generator=generator, out=found[place])
        return found

    def _changed(self, name: str, x: Tensor, draws: Tensor) -> Tensor:
        content = self.contents.get(name)
        if content is None:
            return x
        if content == "spectrogram":
            return _masked(x, draws[:, 6:_DRAWS], self.options)
        if x.ndim == 5:
            x = _jittered(x, draws[:, _DRAWS:], self.options.jitter)
        flipped = draws[:, 4] < self.options.flip
        x = _cropped(x, _boxes(draws, self.options), flipped)
        return _turned(x, flipped, self._still[name]) if content == "flow" else x


def _boxes(draws: Tensor, options: AugmentOptions) -> Tensor:
    """Return left, top, width and height of each crop, as parts of the image, `[B, 4]`."""
    area = options.crop_area + (1 - options.crop_area) * draws[:, 0]
    stretch = torch.exp((2 * draws[:, 1] - 1) * math.log(options.aspect))
    width = (area * stretch).sqrt().clamp(max=1)
    height = (area / stretch).sqrt().clamp(max=1)
    return torch.stack([draws[:, 2] * (1 - width), draws[:, 3] * (1 - height), width, height], dim=1)


def _cropped(x: Tensor, boxes: Tensor, flipped: Tensor) -> Tensor:
    """Crop `[B, ..., H, W]` to boxes, mirror some, and resize to the original size (bilinear)."""
    whole = (boxes == torch.tensor([0.0, 0.0, 1.0, 1.0])).all()
    if whole:  # even an identity resampling would round
        return torch.where(flipped.reshape(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
    left, top, width, height = boxes.T
    sign = 1 - 2 * flipped.to(x.dtype)
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width * sign, 2 * left + width - 1
    theta[:, 1, 1], theta[:, 1, 2] = height, 2 * top + height - 1
    planes = x.reshape(len(x), -1, *x.shape[-2:])
    grid = F.affine_grid(theta, list(planes.shape), align_corners=False)
    cut = F.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cut.reshape(x.shape)


def _turned(x: Tensor, flipped: Tensor, still: Tensor) -> Tensor:
    """Invert the horizontal motion (every other channel) of mirrored flow around the value of no motion."""
    turned = x.clone()
    horizontal = turned[flipped][..., 0::2, :, :]
    turned[flipped, ..., 0::2, :, :] = 2 * still[0::2] - horizontal
    return turned


def _jittered(x: Tensor, draws: Tensor, probability: float) -> Tensor:
    """Replace some frames of `[B, T, ...]` by the frame before or after, with equal probability."""
    count = min(x.shape[1], _JITTERED)
    chosen = draws[:, :count] < probability
    step = torch.where(draws[:, _JITTERED : _JITTERED + count] < 0.5, -1, 1)
    place = (torch.arange(count) + chosen * step).clamp(0, x.shape[1] - 1)
    if x.shape[1] > count:
        rest = torch.arange(count, x.shape[1]).expand(len(x), -1)
        place = torch.cat([place, rest], dim=1)
    return x[torch.arange(len(x))[:, None], place]


def _masked(x: Tensor, draws: Tensor, options: AugmentOptions) -> Tensor:
    """Set bands of spectrograms `[B, ..., frequency, time]` to 0."""
    time, frequency = draws[:, : 2 * _MASKS], draws[:, 2 * _MASKS :]
    over_time = _bands(time[:, : 2 * options.time_masks], x.shape[-1], options.time_width)
    bins = x.shape[-2]
    over_bins = _bands(frequency[:, : 2 * options.frequency_masks], bins, options.frequency_width)
    hidden = over_time[:, None, :] | over_bins[:, :, None]
    return x.masked_fill(hidden.reshape(len(x), *[1] * (x.ndim - 3), *hidden.shape[1:]), 0.0)


def _bands(draws: Tensor, length: int, part: float) -> Tensor:
    """Return the masked positions `[B, length]`: two numbers draw the width and the start of a band."""
    most = int(part * length)
    width = (draws[:, 0::2] * (most + 1)).floor()
    start = (draws[:, 1::2] * (length - width + 1)).floor()
    place = torch.arange(length)
    inside = (place >= start[..., None]) & (place < (start + width)[..., None])
    return inside.any(dim=1)


def _still(spec: ModalitySpec, normalizer: Normalizer) -> Tensor:
    """Return the normalised value of no motion `[C, 1, 1]`."""
    still = torch.from_numpy(normalizer.mirror(127.5 if spec.dtype == "uint8" else 0.0))
    return still.float().expand(spec.shape[-3], 1, 1) if still.ndim < 3 else still.float()
