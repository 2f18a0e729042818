"""Errors of media files."""

from __future__ import annotations

import os
from typing import Final

from equipoise.types import DataError

REASONS: Final = {
    "missing": "missing",
    "empty": "empty",
    "lfs-pointer": "Git LFS pointers instead of the files",
    "truncated": "truncated",
    "wrong-format": "of another format than their name says",
    "no-audio": "without sound",
    "no-video": "without images",
    "unreadable": "unreadable",
    "crash": "crashing the decoder",
}
"""Reason why a file cannot be used, to its wording in a summary."""


class MediaError(DataError):
    """A file that cannot be used.

    Args:
        file: the file.
        reason: a key of `REASONS`.
        found: the problem, as the middle of a sentence: `"is a Git LFS pointer"`.
        remedy: what to do: `"run git lfs pull in the repository"`.
    """

    def __init__(
        self, file: str | os.PathLike[str], reason: str, found: str, remedy: str = "download it again"
    ) -> None:
        assert reason in REASONS
        self.file, self.reason, self.found, self.remedy = os.fspath(file), reason, found, remedy
        super().__init__(f"{self.file} {found}; {remedy}.")

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str, str, str]]:
        return type(self), (self.file, self.reason, self.found, self.remedy)
