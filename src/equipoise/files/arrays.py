"""Read arrays that others wrote with NumPy: `.npy`, and archives of them (`.npz`).

Headers are compared with the sizes of the files before anything is allocated, and Python objects are refused.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.files.untrusted import ABSENT, Refuse, parsing

SHRUNK: Final = 1100
"""No compression of a `.zip` or HDF5 file makes zeros smaller than by this factor."""
_HEADERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_array(path: Path, refuse: Refuse, *, mapped: bool = False) -> NDArray[Any]:
    """Read an array of numbers or texts from a `.npy` file, or map it into memory to read.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file.
        EquipoiseError: what `refuse` returns: it is damaged, holds fewer values than it declares, or objects.
        MachineLimitError: see `equipoise.files.untrusted.check_machine`.
    """
    with parsing(refuse, *ABSENT):
        with path.open("rb") as file:
            _check_header(file, path.stat().st_size)
        found: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        return found


def names_in(path: Path, refuse: Refuse) -> list[str]:
    """Return the names of the arrays in an archive; for the errors see `read_array`."""
    with parsing(refuse, *ABSENT), zipfile.ZipFile(path) as archive:
        return list(_members(archive, path.stat().st_size))


def arrays_in(path: Path, refuse: Refuse, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read some arrays of an archive by name, or all; for the errors see `read_array`."""
    with parsing(refuse, *ABSENT), zipfile.ZipFile(path) as archive:
        members = _members(archive, path.stat().st_size)
        return {name: _member(archive, members[name]) for name in (members if names is None else names)}


def _members(archive: zipfile.ZipFile, size: int) -> Mapping[str, zipfile.ZipInfo]:
    """Return the arrays in a file of `size` bytes, which are all of it: several may be the same bytes."""
    declared = sum(one.file_size for one in archive.infolist())
    if declared > SHRUNK * size:
        raise ValueError(f"its arrays declare {declared} bytes in a file of {size}")
    return {one.filename.removesuffix(".npy"): one for one in archive.infolist()}


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        _check_header(file, member.file_size)
    with archive.open(member) as file:
        found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return found


def _check_header(file: IO[bytes], size: int) -> None:
    """Compare the header of an array with the `size` of its file."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:  # the third is for fields with names that are not Latin-1
        raise ValueError(f"it has the format version {version}, expected (1, 0)")
    try:
        shape, _, dtype = _HEADERS[version](file)
    except MemoryError:
        raise ValueError("its header is nested too deep") from None  # nothing else in it takes memory
    if dtype.hasobject:
        raise ValueError("it holds Python objects, expected numbers or texts")
    declared, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or declared > held:
        raise ValueError(f"it declares the shape {list(shape)}, {declared} bytes, but holds {held}")
