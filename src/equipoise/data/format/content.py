"""Hashes of the content of samples, and reading and writing large arrays in chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 16 * 2**20
"""Approximate size of a chunk in which arrays are read, checked, hashed and written."""


def chunks(count: int, row_bytes: int, chunk_bytes: int | None = None) -> Iterator[slice]:
    """Yield slices of about `chunk_bytes`, by default `CHUNK_BYTES`, that cover `count` rows in order."""
    step = max(1, (chunk_bytes or CHUNK_BYTES) // max(1, row_bytes))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def row_hashes(rows: NDArray[Any]) -> list[str]:
    """Hash the bytes of each row of `[B, ...]` with BLAKE2b-128 to a hexadecimal digest."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return [blake2b(row.data, digest_size=16).hexdigest() for row in flat]


def sample_hashes(hashes: Mapping[str, NDArray[np.str_]]) -> NDArray[np.str_]:
    """Join the hashes `[N]` of all modalities: equal for two samples that are identical in every one."""
    columns = [hashes[name].tolist() for name in hashes]
    return np.array([digest("".join(parts)) for parts in zip(*columns, strict=True)], dtype=np.str_)


def digest(*parts: object) -> str:
    """Return the BLAKE2b-128 digest of JSON-serialisable parts; different parts have different encodings."""
    state = blake2b(digest_size=16)
    for part in parts:
        # Escaped JSON contains no newline, so the newline is an unambiguous separator.
        state.update(json.dumps(part, sort_keys=True).encode() + b"\n")
    return state.hexdigest()


def write_npy_header(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Write the header of a `.npy` file in C order."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
