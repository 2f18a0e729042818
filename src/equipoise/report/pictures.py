"""Samples as pictures that a page holds itself: frames, flow and spectrograms as PNG."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.modality import Layout
from equipoise.data.prepare.media.images import pillow

MOMENTS: Final = 12
"""Moments of a video that are shown; of more, these are evenly spaced."""
HEIGHT: Final = 96
"""Of a moment in pixels; smaller ones are shown enlarged by a whole number."""
GAP: Final = 2
NO_MOTION: Final = 127.5
"""The byte that stores it."""


@dataclass(frozen=True)
class Picture:
    """A picture: its data URI, and the width and height at which it is shown, in pixels."""

    source: str
    width: int
    height: int


def picture(sample: NDArray[Any], layout: Layout) -> Picture:
    """Return a stored image `[C, H, W]` or video `[T, C, H, W]` as one picture, time from left to right.

    Raises:
        MissingExtraError: pillow is not installed.
    """
    moments = sample[None] if sample.ndim == 3 else sample[evenly(len(sample), MOMENTS)]
    colours = _motion(moments, layout) if layout.content == "flow" else _shades(moments, layout)
    if layout.content == "spectrogram":
        colours = colours[:, ::-1]  # low frequencies at the bottom
    _, height, width, _ = colours.shape
    shown = max(1, round(width * HEIGHT / height)), HEIGHT
    module, _ = pillow("the pictures of a preview")
    tiles = [module.fromarray(np.ascontiguousarray(one)) for one in colours]
    if height > HEIGHT:
        tiles = [tile.resize(shown, module.Resampling.BILINEAR) for tile in tiles]
    width, height = tiles[0].size
    strip = module.new("RGB", (len(tiles) * (width + GAP) - GAP, height), "white")
    for place, tile in enumerate(tiles):
        strip.paste(tile, (place * (width + GAP), 0))
    content, times = BytesIO(), max(1, HEIGHT // height)
    strip.save(content, "PNG", optimize=True)
    uri = "data:image/png;base64," + b64encode(content.getvalue()).decode()
    return Picture(uri, times * strip.width, times * strip.height)


def evenly(length: int, count: int) -> NDArray[np.int64]:
    """Return up to `count` evenly spaced indices from the first to the last of `length`."""
    return np.round(np.linspace(0, length - 1, min(length, count))).astype(np.int64)


def _shades(moments: NDArray[Any], layout: Layout) -> NDArray[np.uint8]:
    """Return `[T, H, W, 3]`: three channels as colours, others as the grey of their mean.

    Values that are no bytes are stretched from their 1st to their 99th percentile.
    """
    values = moments.astype(np.float64)
    if values.shape[1] != 3:
        values = np.repeat(values.mean(axis=1, keepdims=True), 3, axis=1)
    if layout.dtype != "uint8":
        low, high = np.quantile(values, [0.01, 0.99])
        values = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
    return np.moveaxis(np.clip(np.round(values), 0, 255).astype(np.uint8), 1, -1)


def _motion(moments: NDArray[Any], layout: Layout) -> NDArray[np.uint8]:
    """Return `[T, H, W, 3]`: direction of the first flow of each moment as hue, speed as brightness.

    To the right is red, downward is green-yellow, to the left is cyan. The brightest is the 99th percentile
    of the sample, but at least two steps of bytes: below them the rounding would be seen.
    """
    byte = layout.dtype == "uint8"
    across, down = (moments[:, axis].astype(np.float64) - (NO_MOTION if byte else 0.0) for axis in (0, 1))
    speed = np.hypot(across, down)
    most = max(float(np.quantile(speed, 0.99)), 2.0 if byte else np.finfo(np.float32).tiny)
    hue = np.round(np.arctan2(down, across) / (2 * np.pi) * 255) % 255
    bright = np.round(np.clip(speed / most, 0, 1) * 255)
    module, _ = pillow("the pictures of a preview")
    found = []
    for one, light in zip(hue.astype(np.uint8), bright.astype(np.uint8), strict=True):
        planes = (one, np.full_like(one, 255), light)
        merged = module.merge("HSV", [module.fromarray(plane) for plane in planes])
        found.append(np.asarray(merged.convert("RGB")))
    return np.stack(found)
