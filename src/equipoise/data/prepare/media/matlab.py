"""Read matrices of numbers from MATLAB files of the levels 4 and 5 (MathWorks, "MAT-File Format").

SciPy reads them in C, where a damaged file ends the process. Here the size that a file declares is compared
with the bytes that are there, and only what is asked for is read: no cells, structures or objects.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.files.arrays import SHRUNK

_HEADER, _HEADER_4 = 128, 20
_ENDS: Final = {b"IM": "<", b"MI": ">"}
"""Last bytes of the header of level 5, to the order of the bytes of a number."""
_MATRIX, _COMPRESSED = 14, 15
_STORED: Final = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4"},
    **{7: "f4", 9: "f8", 12: "i8", 13: "u8"},
}
"""Numbers of the types of values."""
_OF_NUMBERS: Final = range(6, 16)
"""Classes of matrices; the others are cells, structures, texts, objects and sparse ones."""
_LEVEL_4: Final = ("f8", "f4", "i4", "i2", "u2", "u1")
_COMPLEX: Final = 0x800


def read_matrices(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return the matrices of a file that have these names, as `scipy.io.loadmat` does.

    The values have the type in which they are stored, which may be smaller than that in MATLAB.

    Raises:
        OSError, ValueError, zlib.error: it is damaged or of another format, or one of them does not hold real
            numbers; for `equipoise.files.untrusted.parsing`.
    """
    content = path.read_bytes()
    # The text that begins a file of level 5 has no zeros there.
    return dict(_of_level_4(content, names) if 0 in content[:4] else _of_level_5(content, names))


def _of_level_5(content: bytes, names: Collection[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    order = _ENDS.get(content[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("it has no header of a MATLAB file")
    if content.startswith(b"MATLAB 7.3"):
        raise ValueError("it is of version 7.3; save it with '-v7'")
    for kind, raw in _elements(content[_HEADER:], order):
        inner = (kind, raw)
        if kind == _COMPRESSED:
            inner = next(_elements(zlib.decompressobj().decompress(raw, SHRUNK * len(raw)), order), inner)
        if inner[0] == _MATRIX:
            parts = _elements(inner[1], order)
            flags, shape, name = (_numbers(next(parts, (0, b"")), order) for _ in range(3))
            if (called := name.tobytes().rstrip(b"\0").decode("latin-1")) in names:
                kind = int(flags[0]) if len(flags) else 0
                if kind & 0xFF not in _OF_NUMBERS or kind & _COMPLEX:
                    raise ValueError(f"{called!r} does not hold real numbers")
                yield called, _shaped(called, _numbers(next(parts, (0, b"")), order), shape.tolist())


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield type and bytes of each element."""
    place = 0
    while place < len(content):
        kind, size = _words(content, order, place)
        begin = place + 8
        end = begin + size + (-size % 8 if kind != _COMPRESSED else 0)
        if kind >> 16:  # up to four bytes lie in the place of their number
            kind, size, begin, end = kind & 0xFFFF, kind >> 16, place + 4, begin
        if begin + size > (end if begin + 4 == end else len(content)):
            raise ValueError(f"an element declares {size} bytes, more than are there")
        yield kind, content[begin : begin + size]
        place = end


def _words(content: bytes, order: str, place: int) -> list[int]:
    if place + 8 > len(content):
        raise ValueError("it ends within an element")
    return [int(one) for one in np.frombuffer(content, f"{order}u4", 2, place)]


def _numbers(element: tuple[int, bytes], order: str) -> NDArray[Any]:
    kind, raw = element
    if kind not in _STORED:
        raise ValueError(f"an element has the type {kind}, expected numbers")
    dtype = np.dtype(order + _STORED[kind])
    return np.frombuffer(raw, dtype, len(raw) // dtype.itemsize)


def _shaped(name: str, values: NDArray[Any], shape: list[int]) -> NDArray[Any]:
    if min(shape, default=-1) < 0 or math.prod(shape) != len(values):
        raise ValueError(f"{name!r} declares the shape {shape}, and holds {len(values)} values")
    return values.astype(values.dtype.newbyteorder("=")).reshape(shape, order="F")


def _of_level_4(content: bytes, names: Collection[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    place = 0
    while place < len(content):
        if place + _HEADER_4 > len(content):
            raise ValueError("it ends within a header")
        order = "<" if 0 <= int(np.frombuffer(content, "<i4", 1, place)[0]) < 1000 else ">"
        code, rows, columns, imaginary, length = np.frombuffer(content, f"{order}i4", 5, place).tolist()
        stored, kind = divmod(code % 100, 10)
        if stored >= len(_LEVEL_4) or not 0 <= code < 2000 or min(rows, columns, length) < 0:
            raise ValueError("it has no header of a MATLAB file")
        dtype, begin = np.dtype(order + _LEVEL_4[stored]), place + _HEADER_4 + length
        end = begin + rows * columns * dtype.itemsize * (2 if imaginary else 1)
        if end > len(content):
            raise ValueError(f"a matrix declares {rows} x {columns} values, more than are there")
        name = content[begin - length : begin].rstrip(b"\0").decode("latin-1")
        if name in names:
            if kind or imaginary:
                raise ValueError(f"{name!r} does not hold real numbers")
            values = np.frombuffer(content, dtype, rows * columns, begin)
            yield name, _shaped(name, values, [rows, columns])
        place = end
