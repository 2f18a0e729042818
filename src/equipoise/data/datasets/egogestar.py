"""EgoGestAR: gestures drawn by a finger, seen by the wearer of a headset, as RGB frames and optical flow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.prepare.clips import ArrayPreparation
from equipoise.data.prepare.finding import find_file
from equipoise.data.prepare.media.archives import read_archive
from equipoise.data.prepare.media.flow import FlowMethod, encode_flow, method_used, optical_flow
from equipoise.data.prepare.media.images import block_means, block_side
from equipoise.data.prepare.media.video import middles
from equipoise.types import UsageError

ARCHIVE: Final = "egogestar_video_25x60x80.npz"
LENGTH, HEIGHT, WIDTH = 25, 60, 80
NO_GESTURE: Final = "unclassified"
"""Label of the clips of random movements."""
_LUMA: Final = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the luminance (ITU-R BT.601)."""


@dataclass(frozen=True, kw_only=True)
class EgoGestAR(SourceDataset):
    """EgoGestAR: 217 clips of ten gestures of a finger, recorded by the camera of a headset.

    RGB frames are normalised by clip: rooms and light differ more than gestures do.

    Attributes:
        frames: number of RGB frames, evenly spaced.
        moments: number of moments of flow, evenly spaced.
        pixels: height of frames and flow; 60 is the original size (60 x 80), and 30, 15, 12, 6 and 3 average
            blocks, of flow after it was computed at the original size.
        flow_method: `tvl1`, `dis`, `farneback`, or `auto` for TV-L1 if OpenCV's contrib modules are
            installed, else DIS.
    """

    name = "egogestar"
    description = "EgoGestAR: gestures seen from a headset, RGB and optical flow, 217 clips, 10 classes"
    modalities = ("rgb", "flow")
    licence = "none stated; for local use"
    source = "https://github.com/varunj/EgoGestAR"
    citation = (
        "Garg et al., DrawInAir: A Lightweight Gestural Interface Based on Fingertip Regression, European "
        "Conference on Computer Vision (ECCV) Workshops, 2018"
    )
    bibtex = ("garg2018drawinair",)
    expected = f"{ARCHIVE}, an archive of clips"
    size = "62 MB"

    frames: int = 12
    moments: int = 12
    pixels: int = 15
    flow_method: FlowMethod = "dis"

    def __post_init__(self) -> None:
        super().__post_init__()
        block_side(self.pixels, (HEIGHT, WIDTH))
        for name, most in (("frames", LENGTH), ("moments", LENGTH - 1)):
            if not 1 <= getattr(self, name) <= most:
                raise UsageError(f"{name} is {getattr(self, name)}; expected 1 to {most}.")

    def plan(self, source: Path) -> ArrayPreparation:
        """Read the clips and compute their flow; see `SourceDataset.plan`."""
        path = find_file(source, ARCHIVE, self.expected)
        method = method_used(self.flow_method)  # a missing package is said before the work
        axes = {"label": ("N",), "serial": ("N",), "rgb": ("N", LENGTH, HEIGHT, WIDTH, 3)}
        arrays = read_archive(path, axes, "the archive of EgoGestAR")
        rows = np.flatnonzero(arrays["label"] != NO_GESTURE)
        labels, clips = arrays["label"][rows].tolist(), arrays["rgb"][rows]
        serials = arrays["serial"][rows].tolist()
        return ArrayPreparation(
            name=self.name,
            arguments={
                "inputs": {"rgb": self._frames(clips), "flow": self._flow(clips, method)},
                "contents": {"rgb": "frames", "flow": "flow"},
                "normalize": {"rgb": "clip"},
                "target": labels,
                "ids": [f"{label}-{serial:02d}" for label, serial in zip(labels, serials, strict=True)],
                "licence": self.licence,
                "source": self.origin,
            },
            facts={"file": path.name, **self.options(), "flow_method": method},
            notes=(f"{len(arrays['label']) - len(rows)} clips of random movements are left out.",),
        )

    def _frames(self, clips: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the frames in the middles of equal parts, `[N, T, 3, h, w]`."""
        taken = np.moveaxis(clips[:, middles(LENGTH, self.frames)], -1, 2)
        means = block_means(taken, block_side(self.pixels, (HEIGHT, WIDTH)))
        frames: NDArray[np.uint8] = np.round(means).astype(np.uint8)
        return frames

    def _flow(self, clips: NDArray[np.uint8], method: str) -> NDArray[np.uint8]:
        """Return the flow in the middles of equal parts, `[N, T, 2, h, w]`, in pixels at 60 x 80."""
        side, starts = block_side(self.pixels, (HEIGHT, WIDTH)), middles(LENGTH - 1, self.moments)
        flows = []
        for clip in clips:
            pairs = [np.round(clip[start : start + 2] @ _LUMA).astype(np.uint8) for start in starts]
            moments = [optical_flow(pair, method)[0] for pair in pairs]
            flows.append(encode_flow(block_means(np.stack(moments), side)))
        return np.stack(flows)
