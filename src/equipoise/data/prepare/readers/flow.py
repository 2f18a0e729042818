"""Readers of optical flow: computed from frames, or stored as images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.modality import Layout
from equipoise.data.prepare.clips import Clip, ModalityReader
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.media.flow import METHODS, encode_flow, method_used, optical_flow
from equipoise.data.prepare.media.images import Size, frame_files, read_image, sides
from equipoise.data.prepare.media.video import Span, frames_at, middles
from equipoise.types import check_known

DIRECTIONS: Final = ("u", "v")
"""Folder names of stored horizontal and vertical flow."""


@dataclass(frozen=True)
class FlowReader(ModalityReader):
    """Optical flow at some moments of a video, computed from its frames.

    Frames are first cropped and resized to `size`, see `fitted`: motion is in pixels of that size.

    Attributes:
        role: file of the clip.
        count: number of moments, in the middles of `count` equal parts of the clip.
        stack: number of consecutive flows of a moment, along the channels.
        size: side in pixels, or height and width.
        method: see `optical_flow`.
        bound: maximum motion that can be stored, in pixels per frame.
    """

    role: str = "video"
    count: int = 12
    stack: int = 1
    size: Size = 224
    method: str = "auto"
    bound: float = 20.0

    def __post_init__(self) -> None:
        self.check_positive("count", "stack", "size", "bound")
        check_known("flow method", [self.method], METHODS)

    @property
    def layout(self) -> Layout:
        """`[count, 2 * stack, height, width]`."""
        return _layout(self)

    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the flow."""
        file = clip.files[self.role]
        needed = self.stack + 1

        def choose(span: Span) -> list[int]:
            if span.count < needed:
                raise MediaError(
                    file,
                    "truncated",
                    f"has {span.count} frames, but flow needs {needed}",
                    "remove it from the list",
                )
            starts = middles(span.count - self.stack, self.count)
            return [span.first + start + step for start in starts for step in range(needed)]

        gray = frames_at(file, choose, self.size, start=clip.start, seconds=clip.seconds, grey=True).reshape(
            self.count, needed, *sides(self.size)
        )
        flows = [encode_flow(optical_flow(moment, self.method), self.bound) for moment in gray]
        return np.stack(flows).reshape(self.layout.shape)

    def describe(self) -> dict[str, Any]:
        """Describe the reader with the method in use, not `auto`: the values depend on it."""
        return {**super().describe(), "method": method_used(self.method)}


@dataclass(frozen=True)
class FlowImagesReader(ModalityReader):
    """Stored flow: one grey image for each frame and direction, 127.5 for no motion.

    The clip's folder holds `flow_x_0001.jpg` and `flow_y_0001.jpg` (or `x_0001.jpg` and `y_0001.jpg`), or its
    subfolders `u` and `v` (or `x` and `y`) hold the images.

    Attributes:
        role: folder of the clip.
        count: number of moments, in the middles of `count` equal parts.
        stack: number of consecutive flows of a moment, along the channels.
        size: side in pixels, or height and width.
    """

    role: str = "flow"
    count: int = 12
    stack: int = 1
    size: Size = 224

    def __post_init__(self) -> None:
        self.check_positive("count", "stack", "size")

    @property
    def layout(self) -> Layout:
        """`[count, 2 * stack, height, width]`."""
        return _layout(self)

    def read(self, clip: Clip) -> NDArray[Any]:
        """Return the flow."""
        folder, across, down = self._pictures(clip)
        if len(across) != len(down) or len(across) < self.stack:
            raise MediaError(
                folder,
                "truncated",
                f"has {len(across)} images of horizontal motion and {len(down)} of vertical motion",
                f"expected equal numbers of at least {self.stack}: extract them again",
            )
        moments = [
            np.concatenate(
                [
                    read_image(files[start + step], self.size, grey=True)
                    for step in range(self.stack)
                    for files in (across, down)
                ]
            )
            for start in middles(len(across) - self.stack + 1, self.count)
        ]
        return np.stack(moments)

    def _pictures(self, clip: Clip) -> tuple[Path, list[Path], list[Path]]:
        """Return the folder for messages, and the images of horizontal and of vertical motion."""
        folder = clip.files[self.role]
        return folder, *flow_files(folder)


@dataclass(frozen=True)
class FlowFoldersReader(FlowImagesReader):
    """Stored flow with one folder for each direction (two-stream networks; Feichtenhofer et al.).

    Attributes:
        role: common prefix of the two folders, `flow_u` and `flow_v`.
    """

    def _pictures(self, clip: Clip) -> tuple[Path, list[Path], list[Path]]:
        across, down = (clip.files[f"{self.role}_{one}"] for one in DIRECTIONS)
        return across, frame_files(across), frame_files(down)


def flow_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images of horizontal and of vertical motion in a folder, in natural order.

    Raises:
        MediaError: the folder is missing, or holds neither.
    """
    for across, down in (DIRECTIONS, ("x", "y")):
        if (folder / across).is_dir() and (folder / down).is_dir():
            return frame_files(folder / across), frame_files(folder / down)
    files = frame_files(folder)
    found = tuple(
        [file for file in files if file.stem.startswith((f"flow_{axis}", f"{axis}_"))] for axis in "xy"
    )
    if not all(found):
        raise MediaError(
            folder, "no-video", "holds no flow", "expected flow_x_*.jpg and flow_y_*.jpg, or folders u and v"
        )
    return found[0], found[1]


def _layout(reader: FlowReader | FlowImagesReader) -> Layout:
    shape = (reader.count, 2 * reader.stack, *sides(reader.size))
    return Layout(shape, "uint8", "video", content="flow")
