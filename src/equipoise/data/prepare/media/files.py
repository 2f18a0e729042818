"""Files as they are found: missing, empty, pointers of Git LFS, or something else than their name says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from equipoise.data.prepare.media.errors import MediaError

LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
DOWNLOAD_AGAIN: Final = "download it again"
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
"""Format to the endings that promise it."""
SOUND_FORMATS: Final = ("WAV", "FLAC", "Ogg")
"""Formats of sound that need no video decoder."""


def check_media(path: str | os.PathLike[str]) -> None:
    """Check that a file, or a folder of frames, is there and is more than a placeholder.

    Raises:
        MediaError: it is missing, empty, or a pointer that Git LFS left in place of the file.
    """
    file = Path(path)
    if file.is_dir():
        if not any(file.iterdir()):
            raise MediaError(file, "empty", "is an empty folder", DOWNLOAD_AGAIN)
        return
    try:
        if file.stat().st_size == 0:
            raise MediaError(file, "empty", "has zero length", DOWNLOAD_AGAIN)
        with file.open("rb") as stream:
            head = stream.read(len(LFS_POINTER))
    except FileNotFoundError:
        raise MediaError(file, "missing", "is not there", "download it, or take it from the list") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise MediaError(
            file, "unreadable", f"cannot be read ({reason})", "check its permissions and the disk"
        ) from error
    if head == LFS_POINTER:
        raise MediaError(
            file,
            "lfs-pointer",
            "is a Git LFS pointer, not the file itself",
            "run 'git lfs pull' in the repository that it came with",
        )


def format_of(path: Path) -> str | None:
    """Return the format of a file by its first bytes, such as `"AVI"`, or None where they say nothing."""
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
    """Compare what a file is with what its ending promises.

    Returns:
        Its format, or None where neither the first bytes nor the ending are known here.

    Raises:
        MediaError: they contradict each other, or a RIFF file (WAV, AVI) is shorter than its header says.
    """
    _check_riff_size(path)
    found = format_of(path)
    promised = next((name for name, ends in _ENDINGS.items() if path.suffix.lower() in ends), None)
    if promised is not None and found != promised:
        what = f"is a file of {found}" if found else "is something else"
        remedy = f"name it *{_ENDINGS[found][0]}" if found else DOWNLOAD_AGAIN
        raise MediaError(path, "wrong-format", f"{what}, not of {promised} as its name says", remedy)
    return found


def _check_riff_size(path: Path) -> None:
    """Compare the length of a file with what its header says; decoders pass over the difference."""
    with path.open("rb") as stream:
        head = stream.read(8)
    size = int.from_bytes(head[4:8], "little")
    # Programs that write to a pipe cannot know the length and leave 0 or the largest number.
    if head[:4] == b"RIFF" and 0 < size < 0xFFFFFF00 and path.stat().st_size < size + 8:
        found = f"has {path.stat().st_size} of {size + 8} bytes"
        raise MediaError(path, "truncated", found, DOWNLOAD_AGAIN)
