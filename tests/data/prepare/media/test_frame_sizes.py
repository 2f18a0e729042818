"""Frames whose declared size would take more memory than their file is worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.media.video import frame_size, frame_times, read_frames
from limits import limited
from media_files import write_video

HD, FOUR_K = (1080, 1920), (2160, 3840)


def black(path: Path, size: tuple[int, int], count: int = 2) -> Path:
    return write_video(path, np.zeros((count, *size, 3), np.uint8), codec="libx264")


def test_a_black_clip_of_full_hd_is_read(tmp_path: Path) -> None:
    path = black(tmp_path / "a.mp4", HD)
    assert frame_size(path) == HD
    assert read_frames(path, 2, 8).max() == 0


@pytest.mark.parametrize("read", [frame_size, frame_times, lambda path: read_frames(path, 2, 8)])
def test_few_bytes_that_declare_4k_are_refused_before_memory_is_taken(read, tmp_path: Path) -> None:
    path = black(tmp_path / "a.mp4", FOUR_K)
    with (
        limited("a.mp4") as taken,
        pytest.raises(MediaError, match=r"3840 x 2160 pixels, too many for a file of \d+ bytes; save it"),
    ):
        read(path)
    assert taken.bytes < 2**23


def test_4k_with_something_to_see_is_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1, 27, 48, 3), np.uint8)
    path = write_video(tmp_path / "a.mp4", noise.repeat(80, 1).repeat(80, 2), codec="libx264")
    assert read_frames(path, 1, 8).std() > 10


def test_a_frame_that_grows_within_a_stream_is_refused(tmp_path: Path) -> None:
    small, large = black(tmp_path / "a.h264", (64, 64)), black(tmp_path / "b.h264", FOUR_K)
    small.write_bytes(small.read_bytes() + large.read_bytes())
    with limited("a.h264") as taken, pytest.raises(MediaError):
        read_frames(small, 4, 8)
    assert taken.bytes < 2**23
