"""What can be wrong with a file of media."""

from __future__ import annotations

import os
from typing import Final

from equipoise.types import DataError

REASONS: Final = {
    "missing": "not there",
    "empty": "of zero length",
    "lfs-pointer": "Git LFS pointers, not the media themselves",
    "truncated": "ending too early",
    "wrong-format": "not what their name says",
    "no-audio": "without sound",
    "no-video": "without pictures",
    "unreadable": "not to be decoded",
    "crash": "ending the decoder",
}
"""Why a file is of no use, to how a summary says it of several."""


class MediaError(DataError):
    """A file that cannot be used as it is.

    Args:
        file: the file.
        reason: a key of `REASONS`.
        found: what was found, as the middle of a sentence: `"is a Git LFS pointer"`.
        remedy: what to do: `"run git lfs pull in the repository"`.
    """

    def __init__(self, file: str | os.PathLike[str], reason: str, found: str, remedy: str) -> None:
        assert reason in REASONS
        self.file, self.reason, self.found, self.remedy = os.fspath(file), reason, found, remedy
        super().__init__(f"{self.file} {found}; {remedy}.")

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str, str, str]]:
        return type(self), (self.file, self.reason, self.found, self.remedy)
