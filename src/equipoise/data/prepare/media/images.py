"""Read images as arrays of one size."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.folder import visible
from equipoise.data.prepare.media.files import MediaError, check_media, decoding
from equipoise.files.extras import needing
from equipoise.types import UsageError

ALIKE = 1.02
"""Proportions count as the same up to this factor: codecs want even numbers of pixels."""
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
"""Formats of pillow that it reads by itself; for others, as PostScript, it starts programs."""
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")
# Memory is taken for as many pixels as a header declares, before any of them is there: a small file must not
# ask for gigabytes. Each bound lies above what an entirely blank picture needs, and so above every real one.
FEW_PIXELS = 2**21
"""A picture may always have so many: those of Full HD."""
PIXELS_PER_BYTE = 3000
"""Of a blank picture: JPEG 250, lossy WebP 560, grey PNG 1030, GIF 1300 (2730 at most, 4096 in 12 bits)."""
FLAT_PIXELS_PER_BYTE = 30_000
"""Of a blank one in lossless WebP (25,000 at 8K), or in two colours (24,000 in TIFF, by CCITT group 4)."""


Size = int | tuple[int, int]
"""Side of a square, or height and width, in pixels."""


def sides(size: Size) -> tuple[int, int]:
    """Return height and width."""
    return (size, size) if isinstance(size, int) else size


def common_size(found: Sequence[tuple[int, int]], pixels: int) -> Size:
    """Return the size to which pictures of these heights and widths are brought: their own proportions.

    The shorter side has `pixels`, or that of the largest picture if this is less: none is enlarged. Pictures
    of several proportions are brought to a square, returned as its side.
    """
    if not found:
        return pixels
    side = min(pixels, max(map(min, found)))
    ratios = [width / height for height, width in found]
    if max(ratios) > min(ratios) * ALIKE:
        return side
    tall, wide = found[0]
    return round(side * tall / min(tall, wide)), round(side * wide / min(tall, wide))


def parsed_size(text: str) -> tuple[int, int]:
    """Return height and width of a text such as `120x160`, or raise UsageError."""
    found = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", text)
    if found is None:
        raise UsageError(f"resolution is {text!r}; expected HEIGHTxWIDTH, such as 120x160.")
    return int(found[1]), int(found[2])


def read_image(path: Path, size: Size, *, grey: bool = False) -> NDArray[np.uint8]:
    """Read an image of one of the `FORMATS`, rotated according to its EXIF data; see `fitted`.

    Returns:
        `[3, height, width]`, or luminance `[1, height, width]` for grey; transparent parts are black.

    Raises:
        MediaError: the file is missing, truncated or not an image.
        MissingExtraError: pillow is not installed.
    """
    return fitted(_pixels(path, grey), size)


def image_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image, rotated; for the errors see `read_image`."""
    height, width = _pixels(path, grey=True).shape
    return height, width


def _pixels(path: Path, grey: bool) -> NDArray[np.uint8]:
    check_media(path)
    image_module, ops = pillow()
    with decoding(path):
        try:
            with path.open("rb") as stream, image_module.open(stream, formats=FORMATS) as image:
                _check_pixels(path, image)
                image.load()
                ops.exif_transpose(image, in_place=True)
                upright = image
                if upright.mode.startswith("I;16"):  # pillow would cut off what is above 8 bits
                    upright = image_module.fromarray((np.asarray(upright) / 257).round().astype(np.uint8))
                if upright.mode in ("I", "F"):
                    raise MediaError(path, "wrong-format", "has pixels of 32 bits; expected 8 or 16")
                if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                    upright = upright.convert("RGBA")
                    black = image_module.new("RGBA", upright.size, (0, 0, 0, 255))
                    upright = image_module.alpha_composite(black, upright)
                return np.asarray(upright.convert("L" if grey else "RGB"))
        except image_module.UnidentifiedImageError:
            raise MediaError(path, "wrong-format", "is not an image") from None


def _check_pixels(path: Path, image: Any) -> None:
    """Compare the size of an opened image with that of its file.

    Only the first picture of an animation is decoded; pillow counts one that is larger than the canvas as
    the canvas.

    Raises:
        MediaError: it declares more pixels than its file can hold.
    """
    (width, height), size = image.size, path.stat().st_size
    flat = image.mode == "1" or (image.format == "WEBP" and _is_lossless(path))
    most = max(FEW_PIXELS, size * (FLAT_PIXELS_PER_BYTE if flat else PIXELS_PER_BYTE))
    if width * height > most:
        found = f"declares {width} x {height} pixels, too many for a file of {size} bytes"
        raise MediaError(path, "unreadable", found, "save it again, or download it again")


def _is_lossless(path: Path) -> bool:
    """Return whether a WebP holds a single picture without loss, as its first chunk."""
    with path.open("rb") as stream:
        return stream.read(16).endswith(b"VP8L")


def fitted(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Crop the centre of an image to the proportions of `size`, and resize it (bilinear, antialiased).

    Returns `[3, height, width]` for pixels `[H, W, 3]`, or `[1, height, width]` for `[H, W]`. An image of
    that size is not changed.
    """
    (height, width), (tall, wide) = pixels.shape[:2], sides(size)
    rows = min(height, max(1, round(width * tall / wide)))
    columns = min(width, max(1, round(height * wide / tall)))
    top, left = (height - rows) // 2, (width - columns) // 2
    centre = pixels[top : top + rows, left : left + columns]
    if (rows, columns) != (tall, wide):
        image_module, _ = pillow()
        image = image_module.fromarray(np.ascontiguousarray(centre))
        centre = np.asarray(image.resize((wide, tall), image_module.Resampling.BILINEAR))
    planes = centre[None] if centre.ndim == 2 else np.moveaxis(centre, -1, 0)
    return np.ascontiguousarray(planes)


def block_side(height: int, whole: tuple[int, int]) -> int:
    """Return the side of the blocks that `block_means` averages for images of `whole` height and width.

    Raises:
        UsageError: the whole images do not consist of such blocks.
    """
    shared = math.gcd(*whole)
    sizes = [whole[0] // side for side in range(1, shared + 1) if shared % side == 0]
    if height not in sizes:
        raise UsageError(f"pixels is {height}; expected a height of {', '.join(map(str, sizes))}.")
    return whole[0] // height


def block_means(values: NDArray[Any], side: int) -> NDArray[Any]:
    """Return the means of square blocks of `[..., H, W]`, as floats."""
    *others, height, width = values.shape
    blocks = values.reshape(*others, height // side, side, width // side, side)
    means: NDArray[Any] = blocks.mean(axis=(-3, -1))
    return means


def frame_files(folder: Path) -> list[Path]:
    """Return the images in a folder by the numbers in their names, or raise MediaError without any."""
    check_media(folder)
    files = [file for file in visible(folder.iterdir()) if file.suffix.lower() in ENDINGS]
    if not files:
        raise MediaError(folder, "no-video", "holds no images", f"expected files *{', *'.join(ENDINGS)}")
    return sorted(files, key=lambda file: natural(file.name))


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts `frame2` before `frame10`."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part
    ]


def pillow(purpose: str = "reading images") -> tuple[Any, Any]:
    """Return the modules `Image` and `ImageOps` of pillow, or raise MissingExtraError."""
    with needing("pillow", "media", purpose, module="PIL"):
        from PIL import Image, ImageOps
    return Image, ImageOps
