"""Read arrays from NumPy archives (`.npz`) and from files in the IDX format."""

from __future__ import annotations

import gzip
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.folder import listed
from equipoise.data.prepare.media.files import MediaError, check_media, decoding
from equipoise.files.arrays import SHRUNK, arrays_in, names_in

Axes = tuple[int | str, ...]
"""Axes of an array: a length, or the name of one that all arrays with this name share."""


def read_archive(path: Path, axes: Mapping[str, Axes], expected: str) -> dict[str, NDArray[Any]]:
    """Return arrays of an archive by name, after a check of their axes; `expected` is its name in words.

    Raises:
        MediaError: the file is missing or damaged, lacks an array, or has one of another shape.
    """
    arrays = read_arrays(path, axes, expected)
    sizes: dict[str, int] = {}
    for name, wanted in axes.items():
        found = arrays[name].shape
        if not _fits(found, wanted, sizes):
            lengths = ", ".join(f"{one} = {sizes[one]}" for one in wanted if one in sizes)
            shape = f"[{', '.join(map(str, wanted))}]" + (f", with {lengths}" if lengths else "")
            raise MediaError(
                path, "wrong-format", f"has {name!r} {list(found)}", f"expected {shape}, as {expected} has"
            )
    return arrays


def read_arrays(path: Path, names: Collection[str], expected: str) -> dict[str, NDArray[Any]]:
    """Return arrays of an archive by name; `expected` is its name in words.

    Raises:
        MediaError: the file is missing or damaged, or lacks an array.
    """
    check_media(path)
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            found = "is no archive of arrays (.npz)"
            raise MediaError(path, "wrong-format", found, f"expected {expected}")

    def refuse(found: str) -> MediaError:
        return MediaError(path, "unreadable", f"cannot be read ({found})")

    present = names_in(path, refuse)
    if missing := [name for name in names if name not in present]:
        raise MediaError(path, "wrong-format", f"has no array {listed(missing)}", f"expected {expected}")
    return arrays_in(path, refuse, names)


def _fits(found: Sequence[int], wanted: Axes, sizes: dict[str, int]) -> bool:
    """Compare a shape with the wanted axes; the lengths of named ones are taken from `sizes`, or added."""
    return len(found) == len(wanted) and all(
        size == (one if isinstance(one, int) else sizes.setdefault(one, size))
        for size, one in zip(found, wanted, strict=True)
    )


def read_idx(path: Path, shape: Axes) -> NDArray[np.uint8]:
    """Read an array of bytes in the IDX format of MNIST (http://yann.lecun.com/exdb/mnist), gzip-compressed.

    Two bytes 0, the type (8 for bytes) and the number of axes are followed by the length of each axis, as
    big-endian 32-bit numbers, and the values.

    Raises:
        MediaError: the file is missing, damaged, or of another format or shape.
    """
    check_media(path)
    with decoding(path, "cannot be read"), gzip.open(path) as file:
        head = file.read(4)
        if head != bytes([0, 0, 8, len(shape)]):
            remedy = f"expected bytes with {len(shape)} axes"
            raise MediaError(path, "wrong-format", f"has the IDX header {head.hex()}", remedy)
        found = np.frombuffer(file.read(4 * len(shape)), ">u4", count=len(shape)).tolist()
        # One more, so that a longer file is found; never more than the compressed bytes can hold.
        most = min(math.prod(found), SHRUNK * path.stat().st_size) + 1
        values = np.frombuffer(file.read(most), np.uint8)
    if math.prod(found) != len(values):
        said = f"{len(values)}{' or more' if len(values) == most else ''} values"
        raise MediaError(path, "truncated", f"has {said}, but its header says {math.prod(found)}")
    if not _fits(found, shape, {}):
        raise MediaError(
            path, "wrong-format", f"has the shape {found}", f"expected [{', '.join(map(str, shape))}]"
        )
    return values.reshape(found)
