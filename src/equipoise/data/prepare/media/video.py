"""Read selected frames of a clip, decoded one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from equipoise.data.prepare.media.containers import LACKING, opened, seconds_missing
from equipoise.data.prepare.media.files import MediaError, check_media, decoding
from equipoise.data.prepare.media.images import FEW_PIXELS, Size, fitted, frame_files, image_size, read_image

PIXELS_PER_BYTE = 250
"""Frames larger than `FEW_PIXELS` need a file in proportion, 33 kB for 4K: a decoder takes memory for three.

Only clips of a few blank frames have more (860 in H.264, 5700 in VP9), and nothing is to be learnt from them.
"""
Pick = Literal["even", "second"]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Span:
    """The frames of a file that a sample covers.

    Attributes:
        first: index of the first frame.
        stop: index after the last frame.
        times: times of all frames of the file in seconds, ascending from 0.
    """

    first: int
    stop: int
    times: NDArray[np.float64]

    @property
    def count(self) -> int:
        """Number of frames."""
        return self.stop - self.first


def read_frames(
    path: Path,
    count: int,
    size: Size,
    *,
    pick: Pick = "even",
    start: float = 0.0,
    seconds: float | None = None,
) -> Pixels:
    """Read some frames of a video, or of a folder of images (one per second, in natural order of names).

    `pick="even"` takes the middles of `count` equal parts; `"second"` takes one frame per second from the
    start, and repeats the last one if the clip is too short. The sample begins at second `start` and lasts
    `seconds`, or to the end.

    Returns:
        `[count, 3, height, width]`, RGB, see `fitted`; rotation marks of the container are ignored.

    Raises:
        MediaError: the file is missing, empty, truncated, of another format than its name says, or has no
            images.
        MissingExtraError: av or pillow is not installed.
    """
    choose = evenly if pick == "even" else every_second
    return frames_at(path, lambda span: choose(span, count), size, start=start, seconds=seconds)


def evenly(span: Span, count: int) -> list[int]:
    """Return the frames in the middles of `count` equal parts; a short span repeats frames."""
    return [span.first + place for place in middles(span.count, count)]


def middles(length: int, count: int) -> list[int]:
    """Return the middles of `count` equal parts of `length` positions."""
    return [int((part + 0.5) * length / count) for part in range(count)]


def spread(length: int, count: int) -> NDArray[np.int64]:
    """Return `count` evenly spaced indices from the first to the last of `length`."""
    return np.round(np.linspace(0, length - 1, count)).astype(np.int64)


def every_second(span: Span, count: int) -> list[int]:
    """Return the first frame at or after each full second of the span."""
    covered = span.times[span.first : span.stop]
    wanted = covered[0] + np.arange(count) - 1e-6
    return [min(span.first + int(place), span.stop - 1) for place in np.searchsorted(covered, wanted)]


def frames_at(
    path: Path,
    choose: Callable[[Span], Sequence[int]],
    size: Size,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    grey: bool = False,
) -> Pixels:
    """Read the frames whose indices `choose` selects from a span; others are decoded but not kept.

    Returns `[T, 3, height, width]`, or `[T, 1, height, width]` for grey, in the order of the indices. For the
    errors see `read_frames`.
    """
    check_media(path)
    with decoding(path):
        return _frames_at(path, choose, size, start, seconds, grey)


def _frames_at(
    path: Path,
    choose: Callable[[Span], Sequence[int]],
    size: Size,
    start: float,
    seconds: float | None,
    grey: bool,
) -> Pixels:
    if path.is_dir():
        files = frame_files(path)
        span = _span(path, np.arange(len(files), dtype=np.float64), start, seconds)
        kept = {index: read_image(files[index], size, grey=grey) for index in set(choose(span))}
        return np.stack([kept[index] for index in choose(span)])
    span = _span(path, frame_times(path), start, seconds)
    wanted = list(choose(span))
    kept = {}
    for index, frame in _decoded(path, max(wanted)):
        if index in wanted:
            kept[index] = fitted(frame.to_ndarray(format="gray" if grey else "rgb24"), size)
        last = index
    if last < max(wanted) and last + 1 < len(span.times) * (1 - LACKING):
        raise MediaError(path, "truncated", f"gives {last + 1} of {len(span.times)} frames")
    # A decoder may not output the last one or two frames.
    return np.stack([kept.get(index, kept[max(kept)]) for index in wanted])


def frame_size(path: Path) -> tuple[int, int]:
    """Return height and width of the first frame of a video, or of a folder of images.

    For the errors see `read_frames`.
    """
    check_media(path)
    if path.is_dir():
        return image_size(frame_files(path)[0])
    frame = next(iter(_decoded(path, 0)))[1]
    return int(frame.height), int(frame.width)


def frame_times(path: Path) -> NDArray[np.float64]:
    """Return the time of each frame in seconds after the first one, without decoding.

    Raises:
        MediaError: there are no frames, or clearly fewer than the container announces.
    """
    with opened(path) as container:
        stream = _stream(path, container)
        step = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        unit = float(stream.time_base or 0)
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_corrupt]
        # A clip that was cut without decoding keeps frames from before the cut, which are never shown.
        shown = [packet for packet in packets if not packet.is_discard]
        stamps = [packet.pts * unit if packet.pts is not None and unit else None for packet in shown]
        promised = int(stream.frames) if len(shown) == len(packets) else 0  # it counts them too
        known = [stamp for stamp in stamps if stamp is not None]
        begin = float((stream.start_time or 0) * unit)
        missing = seconds_missing(container, stream, max(known) - begin + step) if known else 0.0
    if not stamps:
        raise MediaError(path, "no-video", "has an empty video stream")
    if len(stamps) < promised * (1 - LACKING):
        raise MediaError(path, "truncated", f"has {len(stamps)} of {promised} frames")
    if missing:
        raise MediaError(path, "truncated", f"lacks the last {missing:.1f} seconds of its images")
    if len(known) < len(stamps):
        return np.arange(len(stamps), dtype=np.float64) * step
    times = np.sort(np.array(known, dtype=np.float64))
    relative: NDArray[np.float64] = times - times[0]
    return relative


def _span(path: Path, times: NDArray[np.float64], start: float, seconds: float | None) -> Span:
    first = int(np.searchsorted(times, start - 1e-6))
    stop = len(times) if seconds is None else int(np.searchsorted(times, start + seconds - 1e-6))
    if first >= min(stop, len(times)):
        raise MediaError(
            path,
            "truncated",
            f"has no images after second {start:g} (it lasts {times[-1]:.1f})",
            "check its length and the list",
        )
    return Span(first, stop, times)


def _stream(path: Path, container: Any) -> Any:
    if not container.streams.video:
        raise MediaError(
            path, "no-video", "has no images", "remove it from the list, or download it with images"
        )
    stream = container.streams.video[0]
    codec, size = stream.codec_context, path.stat().st_size
    most = max(FEW_PIXELS, PIXELS_PER_BYTE * size)
    if codec.width * codec.height > most:
        found = f"declares {codec.width} x {codec.height} pixels, too many for a file of {size} bytes"
        raise MediaError(path, "unreadable", found, "save it again with smaller frames, or download it again")
    codec.options = {"max_pixels": str(most)}  # also where a later frame declares more
    codec.thread_count = 1  # the preparation already uses one process per core
    return stream


def _decoded(path: Path, last: int) -> Iterator[tuple[int, Any]]:
    """Yield index and frame up to `last`, in presentation order."""
    with opened(path) as container:
        stream = _stream(path, container)
        index = -1
        for index, frame in enumerate(container.decode(stream)):
            yield index, frame
            if index == last:
                return
    if index < 0:
        raise MediaError(path, "truncated", "gives no frame")
