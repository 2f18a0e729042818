"""Optical flow between successive frames."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from equipoise.files.extras import needing
from equipoise.types import MissingExtraError, check_known

FlowMethod = Literal["auto", "tvl1", "dis", "farneback"]
METHODS = get_args(FlowMethod)


def optical_flow(gray: NDArray[np.uint8], method: str = "auto") -> NDArray[np.float32]:
    """Estimate the motion from each frame `[T, H, W]` to the next.

    `method` is `tvl1` (Zach, Pock, Bischof, DAGM 2007; needs OpenCV's contrib modules), `dis` (Kroeger et
    al., ECCV 2016), `farneback` (Farneback, SCIA 2003), or `auto`: TV-L1 where it is installed, else DIS.

    Returns:
        `[T - 1, 2, H, W]` in pixels; channel 0 is to the right, channel 1 downward.

    Raises:
        MissingExtraError: OpenCV, or for `tvl1` its contrib modules, are not installed.
        UnknownNameError: the method does not exist.
    """
    cv2 = _opencv()
    cv2.setNumThreads(1)
    estimate = _estimator(cv2, method_used(method))
    flows = [
        np.moveaxis(estimate(np.ascontiguousarray(before), np.ascontiguousarray(after)), -1, 0)
        for before, after in pairwise(gray)
    ]
    return np.stack(flows).astype(np.float32)


def method_used(method: str = "auto") -> str:
    """Return the method that `optical_flow` uses on this machine; it raises the same errors."""
    check_known("flow method", [method], METHODS)
    contrib = hasattr(_opencv(), "optflow")
    if method == "tvl1" and not contrib:
        raise MissingExtraError(
            "opencv-contrib-python-headless",
            "media",
            "the flow method 'tvl1' (in place of opencv-python-headless)",
        )
    return ("tvl1" if contrib else "dis") if method == "auto" else method


def encode_flow(flow: NDArray[Any], bound: float = 20.0) -> NDArray[np.uint8]:
    """Encode motion as bytes: -bound is 0, no motion 127.5, bound is 255; faster motion is clipped."""
    clipped = np.clip(flow, -bound, bound)
    stored: NDArray[np.uint8] = np.round((clipped + bound) * (255 / (2 * bound))).astype(np.uint8)
    return stored


def _estimator(cv2: Any, method: str) -> Any:
    if method == "tvl1":
        solver = cv2.optflow.createOptFlow_DualTVL1()
        return lambda before, after: solver.calc(before, after, None)
    if method == "dis":
        solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return lambda before, after: solver.calc(before, after, None)
    return lambda before, after: cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)


def _opencv() -> Any:
    with needing("opencv-python-headless", "media", "optical flow", module="cv2"):
        import cv2
    return cv2
