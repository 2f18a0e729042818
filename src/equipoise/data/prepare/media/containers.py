"""Open sound and video files with PyAV, and turn its errors into `MediaError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equipoise.data.prepare.media.files import MediaError, check_format, decoding
from equipoise.files.extras import needing
from equipoise.files.printable import printable
from equipoise.files.untrusted import first_line

LACKING = 0.05
"""Part of the announced length that may be missing; with more missing, a file is truncated."""
ALONE = {"protocol_whitelist": "none"}
"""Options that keep a decoder within a file: it would open the files and addresses that a playlist names."""


def pyav() -> Any:
    """Return the module `av`, silenced, or raise MissingExtraError."""
    with needing("av", "media", "reading video"):
        import av
    av.logging.set_level(av.logging.PANIC)
    return av


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a container for reading; errors in opening and decoding it become `MediaError`."""
    av = pyav()
    known = check_format(path)
    # A stream of bytes: the decoder cannot open some file names.
    with decoding(path), path.open("rb") as stream:
        try:
            container = av.open(stream, "r", metadata_errors="replace", options=ALONE)
        except (av.error.FFmpegError, ValueError) as error:
            reason, what = ("truncated", "is truncated") if known else ("wrong-format", "is not a media file")
            raise MediaError(path, reason, f"{what} ({_text(error)})") from error
        try:
            yield container
        except av.error.FFmpegError as error:
            raise MediaError(path, "unreadable", f"cannot be decoded ({_text(error)})") from error
        finally:
            container.close()


def seconds_missing(container: Any, stream: Any, reached: float) -> float:
    """Return by how many seconds a stream that ends at second `reached` is clearly too short, or 0.

    If the container has only one length for the whole file, another stream may be the longest, so that more
    may be missing.
    """
    if stream.duration and stream.time_base:
        promised, least = float(stream.duration * stream.time_base), 1 - LACKING
    elif container.duration:
        promised, least = container.duration / 1_000_000, 1 - 4 * LACKING
    else:
        return 0.0
    return promised - reached if reached < promised * least - 0.1 else 0.0


def _text(error: Exception) -> str:
    return printable(str(getattr(error, "strerror", "") or first_line(error)))
