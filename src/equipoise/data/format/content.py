"""Hashes of what samples hold, and the pieces in which large arrays are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 16 * 2**20
"""Arrays are read, checked, hashed and written in pieces of about this many bytes."""


def chunks(count: int, row_bytes: int) -> Iterator[slice]:
    """Yield slices that cover `count` rows in order, each about `CHUNK_BYTES` large and never empty."""
    step = max(1, CHUNK_BYTES // max(1, row_bytes))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def row_hashes(rows: NDArray[Any]) -> list[str]:
    """Hash the bytes of each row of `[B, ...]` with BLAKE2b-128 to a hexadecimal digest."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return [blake2b(row.data, digest_size=16).hexdigest() for row in flat]


def sample_hashes(hashes: Mapping[str, NDArray[np.str_]]) -> NDArray[np.str_]:
    """Join the hashes of all modalities to one hash a sample.

    Args:
        hashes: modality to digests `[N]`.

    Returns:
        `[N]`: equal where two samples are identical in every modality.
    """
    columns = [hashes[name].tolist() for name in hashes]
    return np.array([digest("".join(parts)) for parts in zip(*columns, strict=True)], dtype=np.str_)


def digest(*parts: object) -> str:
    """Return the BLAKE2b-128 digest of JSON-serialisable parts; unequal parts never share an encoding."""
    state = blake2b(digest_size=16)
    for part in parts:
        # Escaped JSON is pure ASCII without bare newlines, so the newline separates unambiguously.
        state.update(json.dumps(part, sort_keys=True).encode() + b"\n")
    return state.hexdigest()
