"""Open files of sound and video with PyAV, and say in one line what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equipoise.data.prepare.media.errors import MediaError
from equipoise.data.prepare.media.files import DOWNLOAD_AGAIN, check_format
from equipoise.types import MissingExtraError

LACKING = 0.05
"""Part of what a container promises that may be absent before a file counts as cut short."""


def pyav() -> Any:
    """Return the module `av`, silenced.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise MissingExtraError("av", "media", "reading video") from None
    av.logging.set_level(av.logging.PANIC)
    return av


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a container for reading; errors of the decoder inside become `MediaError`.

    Raises:
        MediaError: the file cannot be opened or decoded.
    """
    av = pyav()
    known = check_format(path)
    # A stream of bytes, as some names are none that the decoder's library can open.
    with path.open("rb") as stream:
        try:
            container = av.open(stream, "r", metadata_errors="replace")
        except (av.error.FFmpegError, ValueError) as error:
            reason, what = ("truncated", "is cut short") if known else ("wrong-format", "is no media file")
            raise MediaError(path, reason, f"{what} ({_text(error)})", DOWNLOAD_AGAIN) from error
        try:
            yield container
        except av.error.FFmpegError as error:
            raise MediaError(
                path, "unreadable", f"cannot be decoded ({_text(error)})", DOWNLOAD_AGAIN
            ) from error
        finally:
            container.close()


def seconds_missing(container: Any, stream: Any, reached: float) -> float:
    """Return how many seconds a stream is clearly too short, or 0.

    Where the container gives a length for the file alone, other streams may be the longer ones, and more may
    be absent without harm.

    Args:
        container: open file.
        stream: of sound or pictures.
        reached: seconds at which it ends.
    """
    if stream.duration and stream.time_base:
        promised, least = float(stream.duration * stream.time_base), 1 - LACKING
    elif container.duration:
        promised, least = container.duration / 1_000_000, 1 - 4 * LACKING
    else:
        return 0.0
    return promised - reached if reached < promised * least - 0.1 else 0.0


def _text(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error).splitlines()[0]
