"""Errors of media files, and checks before decoding: missing, empty, placeholders, of another format."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from equipoise.data.format.folder import visible
from equipoise.files.limits import check_machine
from equipoise.files.untrusted import parsing
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
LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_HEAD = 64

_ENDINGS: Final = {
    "WAV": (".wav",),
    "FLAC": (".flac",),
    "Ogg": (".ogg", ".oga", ".opus"),
    "AVI": (".avi",),
    "MP4": (".mp4", ".m4a", ".m4v", ".mov"),
    "FLV": (".flv",),
    "Matroska": (".mkv", ".webm", ".mka"),
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
}
"""Format to file name endings."""
SOUND_FORMATS: Final = ("WAV", "FLAC", "Ogg")
"""Sound formats that need no video decoder."""


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


def decoding(path: Path, what: str = "cannot be decoded") -> AbstractContextManager[None]:
    """Turn every error of a decoder in a block into a MediaError, which says `what` is wrong."""

    def refuse(found: str) -> MediaError:
        return MediaError(path, "truncated" if "truncated" in found else "unreadable", f"{what} ({found})")

    return parsing(refuse)


def check_media(path: str | os.PathLike[str]) -> None:
    """Raise MediaError if a file, or folder of frames, is missing, empty or a Git LFS pointer."""
    file = Path(path)
    if file.is_dir():
        if not visible(file.iterdir()):
            raise MediaError(file, "empty", "is an empty folder")
        return
    try:
        if file.stat().st_size == 0:
            raise MediaError(file, "empty", "has zero length")
        with file.open("rb") as stream:
            head = stream.read(len(LFS_POINTER))
    except FileNotFoundError:
        raise MediaError(file, "missing", "is missing", "download it, or remove it from the list") from None
    except OSError as error:
        check_machine(error)
        reason = error.strerror or type(error).__name__
        raise MediaError(
            file, "unreadable", f"cannot be read ({reason})", "check its permissions and the disk"
        ) from error
    if head == LFS_POINTER:
        raise MediaError(
            file,
            "lfs-pointer",
            "is a Git LFS pointer instead of the file",
            "run 'git lfs pull' in its repository",
        )


def format_of(path: Path) -> str | None:
    """Return the format of a file by its first bytes, such as `"AVI"`, or None if they are unknown."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    if head[:4] in (b"RIFF", b"RF64"):
        return {b"WAVE": "WAV", b"AVI ": "AVI"}.get(head[8:12])
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return "MP4"
    starts = {
        b"fLaC": "FLAC",
        b"OggS": "Ogg",
        b"FLV": "FLV",
        b"\x1a\x45\xdf\xa3": "Matroska",
        b"\x89PNG": "PNG",
        b"\xff\xd8\xff": "JPEG",
        b"GIF8": "GIF",
        b"BM": "BMP",
    }
    return next((name for start, name in starts.items() if head.startswith(start)), None)


def check_format(path: Path) -> str | None:
    """Compare the format of a file with the ending of its name.

    Returns its format, or None if neither the first bytes nor the ending are known.

    Raises:
        MediaError: they differ, or a RIFF file (WAV, AVI) is shorter than its header says.
    """
    _check_riff_size(path)
    found = format_of(path)
    promised = next((name for name, ends in _ENDINGS.items() if path.suffix.lower() in ends), None)
    if promised is not None and found != promised:
        what = f"is a {found} file" if found else "is of an unknown format"
        remedy = f"rename it to *{_ENDINGS[found][0]}" if found else "download it again"
        raise MediaError(path, "wrong-format", f"{what}, not {promised} as its name says", remedy)
    return found


def _check_riff_size(path: Path) -> None:
    """Compare the length of a file with its header; decoders ignore the difference."""
    with path.open("rb") as stream:
        head = stream.read(8)
    size = int.from_bytes(head[4:8], "little")
    # Programs that write to a pipe do not know the length, and write 0 or the largest number; others count
    # the eight bytes before it as well.
    if head[:4] == b"RIFF" and 0 < size < 0xFFFFFF00 and path.stat().st_size < size:
        found = f"has {path.stat().st_size} of {size + 8} bytes"
        raise MediaError(path, "truncated", found)
