"""Seals: sizes and digests by which a record notices that one of its files was damaged or changed.

The digest is SHA-256: `sha256sum` computes it too, it is far too long for two files to agree by chance, and
processors of recent years have instructions for it. On one core it digests 1.8 GB a second there (BLAKE2b 0.9
GB), while a checkpoint is written to a disk at 0.4 GB a second. A cyclic checksum would be faster still, but
it is made for single flips of bits, not for a text that was edited. A seal is not a signature:
anyone who edits a file can compute it anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from equipoise.types import RunFolderError

SEALS: Final = "seals"
"""The key of a result, or summary, under which the seals of its files are, and its own."""
OWN: Final = "this file"
CHUNK: Final = 2**20

Seal = Mapping[str, Any]
"""`bytes` of a file and the `sha256` of as many of its first bytes."""
EMPTY: Final[Seal] = {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}


def seal_of(path: Path) -> Seal:
    """Return the seal of a file; one that is not there counts as empty."""
    if not path.is_file():
        return EMPTY
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return {"bytes": file.tell(), "sha256": digest.hexdigest()}


def begins(path: Path, seal: Seal) -> bool:
    """Return whether a file begins with what was sealed; it may have grown since."""
    digest, left = hashlib.sha256(), int(seal["bytes"])
    if left:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            while left and (part := file.read(min(left, CHUNK))):
                digest.update(part)
                left -= len(part)
    return not left and digest.hexdigest() == seal["sha256"]


def holds(path: Path, seal: Seal) -> bool:
    """Return whether a file is exactly what was sealed."""
    size = path.stat().st_size if path.is_file() else 0
    return size == seal["bytes"] and begins(path, seal)


def sealed(values: Mapping[str, Any], seals: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a JSON file with seals of other files, and its own."""
    content = {**values, SEALS: dict(seals)}
    return {**values, SEALS: {**seals, OWN: digest_of(content)}}


def opened(
    values: Mapping[str, Any], path: Path, remedy: str
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the content that was read from `path` and the seals in it; None in files of earlier versions.

    Raises:
        RunFolderError: it is not what was sealed.
    """
    content = dict(values)
    seals = content.pop(SEALS, None)
    if seals is None and not any(isinstance(one, dict) and OWN in one for one in content.values()):
        return content, None  # else the key itself is damaged
    if not isinstance(seals, dict):
        raise changed(path, remedy)
    held = {name: value for name, value in seals.items() if name != OWN}
    if digest_of({**content, SEALS: held}) != seals.get(OWN):
        raise changed(path, remedy)
    return content, held


def digest_of(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values, which does not depend on how a file writes them."""
    plain = json.loads(json.dumps(values))  # as they are read again: keys are texts
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def changed(path: Path, remedy: str) -> RunFolderError:
    """Return what to say of a file that is not what was sealed."""
    if not path.is_file():
        return RunFolderError(f"{path} is missing. {remedy}")
    return RunFolderError(
        f"{path} is not as it was written: it was damaged or changed since (its SHA-256 differs). {remedy}"
    )
