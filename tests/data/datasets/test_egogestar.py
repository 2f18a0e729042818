"""EgoGestAR from an archive of clips, with flow computed from moving squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from equipoise.data.datasets.egogestar import ARCHIVE, EgoGestAR
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.media.files import MediaError
from equipoise.types import PathError, UsageError

pytest.importorskip("cv2")
REAL = Path(__file__).parents[4] / "shared" / "data" / ARCHIVE
STEPS = {"right": (0, 2), "down": (1, 0), "unclassified": (0, 0)}
"""Motion of the square of a class, in pixels a frame: downward and to the right."""


def clip(down: int, right: int, seed: int) -> np.ndarray:
    """Twenty-five frames with a textured square that moves."""
    rng = np.random.default_rng(seed)
    background, square = rng.integers(90, 110, (60, 80, 3)), rng.integers(0, 256, (16, 16, 3))
    frames = np.repeat(background[None], 25, axis=0)
    for number, frame in enumerate(frames):
        top, left = 10 + down * number, 12 + right * number
        frame[top : top + 16, left : left + 16] = square
    return frames.astype(np.uint8)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    labels = ["right", "unclassified", "down", "right", "down"]
    return {
        "label": np.array(labels),
        "serial": np.array([1, 1, 1, 12, 2], np.int16),
        "rgb": np.stack([clip(*STEPS[label], seed=number) for number, label in enumerate(labels)]),
    }


def test_frames_flow_and_classes_come_from_the_clips(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / ARCHIVE, **arrays)
    plan = EgoGestAR(frames=5, moments=4).plan(tmp_path)
    dataset = prepare(plan, tmp_path / "out").dataset
    assert dataset.ids.tolist() == ["right-01", "down-01", "right-12", "down-02"]
    assert dataset.classes == ("down", "right")
    assert dataset.split is None
    assert plan.notes == ("1 clips of random movements are left out.",)
    rgb, flow = dataset.modalities["rgb"], dataset.modalities["flow"]
    assert (rgb.shape, rgb.content, rgb.normalize) == ((5, 3, 15, 20), "frames", "clip")
    assert (flow.shape, flow.content, flow.normalize) == ((4, 2, 15, 20), "flow", "standard")
    shown = arrays["rgb"][2, [2, 7, 12, 17, 22]]  # the middles of five times five frames
    block = shown[3, 8:12, 16:20].reshape(-1, 3).mean(0)
    assert np.abs(dataset.array("rgb")[1, 3, :, 2, 4] - block).max() <= 0.5


def test_flow_is_the_motion_in_pixels_of_the_original_size(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    np.savez(tmp_path / ARCHIVE, **arrays)
    for pixels in (60, 15):
        plan = EgoGestAR(moments=4, pixels=pixels).plan(tmp_path)
        stored = plan.arguments["inputs"]["flow"]
        assert stored.shape == (4, 4, 2, pixels, pixels * 4 // 3)
        motion = stored / 255 * 40 - 20
        for row, label in enumerate(plan.arguments["target"]):
            down, right = STEPS[label]
            for moment, start in enumerate((3, 9, 15, 21)):
                middle = np.array([10 + down * start + 8, 12 + right * start + 8]) * pixels // 60
                found = motion[row, moment, :, middle[0], middle[1]]
                assert found == pytest.approx([right, down], abs=0.5), (label, moment, pixels)


def test_the_normalisation_of_frames_is_a_default(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / ARCHIVE, **arrays)
    plan = EgoGestAR(frames=2, moments=1).plan(tmp_path)
    for given, expected in (
        ({"flow": "none"}, ("clip", "none")),
        ({"rgb": "standard"}, ("standard", "standard")),
        ("none", ("none", "none")),
    ):
        dataset = prepare(plan, tmp_path / "out", normalize=given, overwrite=True).dataset
        assert tuple(dataset.modalities[name].normalize for name in ("rgb", "flow")) == expected


def test_wrong_options_and_archives_are_refused(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pixels is 16; expected a height of 60, 30, 15, 12, 6, 3"):
        EgoGestAR(pixels=16)
    with pytest.raises(UsageError, match="moments is 25; expected 1 to 24"):
        EgoGestAR(moments=25)
    with pytest.raises(PathError, match="expected egogestar_video_25x60x80"):
        EgoGestAR().plan(tmp_path)
    np.savez(tmp_path / ARCHIVE, **{**arrays, "rgb": arrays["rgb"][:, :20]})
    with pytest.raises(MediaError, match=r"\[5, 20, 60, 80, 3\]; expected \[N, 25, 60, 80, 3\]"):
        EgoGestAR().plan(tmp_path)


@pytest.mark.skipif(not REAL.is_file(), reason="EgoGestAR is not available")
def test_real_clips_are_the_gestures_of_the_archive() -> None:
    plan = EgoGestAR(frames=25, moments=1, pixels=60).plan(REAL)
    with np.load(REAL, allow_pickle=False) as archive:
        known = archive["label"] != "unclassified"
        np.testing.assert_array_equal(
            np.moveaxis(plan.arguments["inputs"]["rgb"], 2, -1), archive["rgb"][known]
        )
        assert plan.arguments["target"] == archive["label"][known].tolist()
    assert len(set(plan.arguments["target"])) == 10
    assert len(set(plan.arguments["ids"])) == 217
