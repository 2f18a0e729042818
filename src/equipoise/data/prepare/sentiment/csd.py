"""Computational sequences of the CMU Multimodal SDK: `.csd` files, which are HDF5.

One group, named as the sequence, holds `data/<video>/features` [n, d] and `data/<video>/intervals` [n, 2]
(begin and end in seconds). Only arrays stored in the file itself are read: no links, no other files, no
pickled objects.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.prepare.media.files import MediaError, check_media
from equipoise.files.arrays import SHRUNK
from equipoise.files.extras import needing
from equipoise.files.limits import check_machine
from equipoise.files.untrusted import first_line, parsing
from equipoise.types import DataError


@dataclass(frozen=True)
class Sequence:
    """The part of a computational sequence that belongs to one video.

    Attributes:
        features: numbers `[n, d]` (float64), or words as bytes `[n, 1]`.
        intervals: begin and end of each row in seconds `[n, 2]`, in order of begin.
    """

    features: NDArray[Any]
    intervals: NDArray[np.float64]


class ComputationalSequence:
    """An open `.csd` file; see `open_csd`.

    Attributes:
        path: of the file.
        videos: sorted names of the videos.
        holds_words: whether features are texts instead of numbers.
    """

    def __init__(self, path: str, file: Any) -> None:
        self.path = path
        with _reading(path):
            roots = sorted(key for key in file if _own(file, key))
            self._data: Any = next((file[root]["data"] for root in roots if _has(file[root], "data")), None)
            self._size = os.stat(path).st_size  # noqa: PTH116
        if self._data is None:
            raise DataError(
                f"{path} has the groups {roots}; expected a computational sequence with a group "
                "'data': use a .csd file of the CMU Multimodal SDK."
            )
        with _reading(path):
            self.videos = sorted(key for key in self._data if _own(self._data, key))
        if not self.videos:
            raise MediaError(path, "empty", "holds no video")
        self.holds_words = self._array(self.videos[0], "features").dtype.kind in "SOU"

    def __contains__(self, video: object) -> bool:
        with _reading(self.path):
            return isinstance(video, str) and video in self._data and _own(self._data, video)

    def read(self, video: str) -> Sequence:
        """Return features and intervals of one video, sorted by begin.

        Raises:
            DataError: they are missing, do not match, or are not arrays of numbers or words; or the file is
                damaged.
        """
        with _reading(self.path, f" at {video!r}"):
            return self._read(video)

    def _read(self, video: str) -> Sequence:
        features, intervals = self._array(video, "features"), self._array(video, "intervals")
        shapes = f"features {list(features.shape)} and intervals {list(intervals.shape)}"
        if features.ndim != 2 or intervals.shape != (len(features), 2) or intervals.dtype.kind not in "fiu":
            raise DataError(f"{self.path}: {video!r} has {shapes}; expected [n, d] and [n, 2] of numbers.")
        found, times = features[()], np.asarray(intervals[()], dtype=np.float64)
        order = np.argsort(times[:, 0], kind="stable")
        if not self.holds_words:
            found = found.astype(np.float64, copy=False)
        return Sequence(found[order], times[order])

    def _array(self, video: str, name: str) -> Any:
        """Return the unread dataset after a check that it is plain and stored in this file, all of it."""
        with _reading(self.path, f" at {video!r}"):
            return self._checked(self._data[video], video, name)

    def _checked(self, group: Any, video: str, name: str) -> Any:
        if not _has(group, name):
            raise DataError(
                f"{self.path}: {video!r} has no {name} in this file; expected features and intervals."
            )
        array = group[name]
        if not hasattr(array, "dtype") or array.is_virtual or array.external is not None:
            raise DataError(
                f"{self.path}: {name} of {video!r} is in another file; expected an array in this one."
            )
        import h5py

        words = h5py.check_string_dtype(array.dtype) is not None
        if array.dtype.kind not in "fiu" and not (words and name == "features"):
            raise DataError(
                f"{self.path}: {name} of {video!r} is of the type {array.dtype}; expected numbers or words."
            )
        # HDF5 allocates what is declared: the array, and each compressed piece of it.
        held = min(array.id.get_storage_size(), self._size)
        piece = math.prod(array.chunks or ()) * array.dtype.itemsize
        if array.nbytes > SHRUNK * held or piece > SHRUNK * self._size:
            found = f"declares {max(array.nbytes, piece)} bytes in {name} of {video!r}, but holds {held}"
            raise MediaError(self.path, "truncated", found)
        return array


@contextmanager
def open_csd(path: str | os.PathLike[str]) -> Iterator[ComputationalSequence]:
    """Open a computational sequence for reading; videos are read one at a time.

    Raises:
        MissingExtraError: h5py is not installed.
        MediaError: the file is missing, empty, a Git LFS pointer, truncated, or not HDF5.
        DataError: it is HDF5 of another layout.
    """
    with needing("h5py", "media", "reading .csd files"):
        import h5py
    name = os.fspath(path)
    check_media(name)
    try:
        file = h5py.File(name, "r")
    except OSError as error:
        check_machine(error)
        if "truncated" in str(error):
            raise MediaError(name, "truncated", "ends within the HDF5 data") from error
        raise MediaError(name, "wrong-format", "is not an HDF5 file, or is damaged") from error
    except Exception as error:  # HDF5 has any kind for a damaged file
        check_machine(error)
        raise MediaError(name, "truncated", f"is damaged ({first_line(error)})") from error
    with file:
        yield ComputationalSequence(name, file)


def _reading(path: str, where: str = "") -> AbstractContextManager[None]:
    """Turn every error of HDF5 in a block into one about the file."""
    return parsing(lambda found: MediaError(path, "truncated", f"is damaged{where} ({found})"))


def _own(group: Any, key: str) -> bool:
    """Return whether a group is stored in the file itself: a link may refer to any file of the machine."""
    import h5py

    return isinstance(group.get(key, getlink=True), h5py.HardLink) and isinstance(group[key], h5py.Group)


def _has(group: Any, key: str) -> bool:
    import h5py

    return hasattr(group, "keys") and isinstance(group.get(key, getlink=True), h5py.HardLink)


def rows_within(sequence: Sequence, begin: float, end: float) -> NDArray[np.intp]:
    """Return the rows whose interval [a, b) overlaps a time window, that is a < end and b > begin.

    An interval without length belongs to the window that contains it.
    """
    starts, stops = sequence.intervals.T
    last = int(np.searchsorted(starts, end, side="left"))
    starts, stops = starts[:last], stops[:last]
    return np.flatnonzero((stops > begin) | ((starts == stops) & (starts == begin)))


def average_over(sequence: Sequence, windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average the rows within each time window, begin and end in seconds `[T, 2]`.

    Returns:
        Means `[T, d]`, 0 in windows without rows.
    """
    means = np.zeros((len(windows), sequence.features.shape[1]))
    for t, (begin, end) in enumerate(windows):
        rows = rows_within(sequence, begin, end)
        if len(rows):
            means[t] = sequence.features[rows].mean(axis=0)
    return means
