"""Read images as square arrays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.folder import visible
from equipoise.data.prepare.media.files import MediaError, check_media
from equipoise.types import MissingExtraError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")


def read_image(path: Path, size: int, *, grey: bool = False) -> NDArray[np.uint8]:
    """Read an image of any format, rotated according to its EXIF data; see `squared`.

    Returns:
        `[3, size, size]`, or luminance `[1, size, size]` for grey; transparent parts are black.

    Raises:
        MediaError: the file is missing, truncated or not an image.
        MissingExtraError: pillow is not installed.
    """
    check_media(path)
    image_module, ops = _pillow()
    try:
        with path.open("rb") as stream, image_module.open(stream) as image:
            image.load()
            upright = ops.exif_transpose(image)
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                upright = upright.convert("RGBA")
                black = image_module.new("RGBA", upright.size, (0, 0, 0, 255))
                upright = image_module.alpha_composite(black, upright)
            pixels = np.asarray(upright.convert("L" if grey else "RGB"))
    except image_module.UnidentifiedImageError:
        raise MediaError(path, "wrong-format", "is not an image") from None
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        reason = "truncated" if "truncated" in str(error) else "unreadable"
        raise MediaError(path, reason, f"cannot be decoded ({error})") from error
    return squared(pixels, size)


def squared(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Crop an image to its centre square and resize it (bilinear, with antialiasing when shrinking).

    Returns `[3, size, size]` for pixels `[H, W, 3]`, or `[1, size, size]` for `[H, W]`. A square of that size
    is not changed.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    if side != size:
        image_module, _ = _pillow()
        image = image_module.fromarray(np.ascontiguousarray(square))
        square = np.asarray(image.resize((size, size), image_module.Resampling.BILINEAR))
    planes = square[None] if square.ndim == 2 else np.moveaxis(square, -1, 0)
    return np.ascontiguousarray(planes)


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


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise MissingExtraError("pillow", "media", "reading images") from None
    return Image, ImageOps
