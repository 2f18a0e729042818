"""Convert downloaded arrays to the datasets of docs/results, with two, three and four modalities.

Usage: python benchmarks/prepare_sets.py SOURCE_DIR OUT_DIR

SOURCE_DIR contains some of these NumPy archives:

- mosi_utt.npz: CMU-MOSI by utterance (Zadeh et al., 2016; features of Poria et al., 2017): `text` [N, 100],
  `audio` [N, 73], `video` [N, 100], `label`, `id`, `video_id` and `repo_split`. The text and
  video features were learnt on the training part of this split, so any other split would leak.
- sp_sw_har_1s_windows.npz: phone and watch (Matey-Sanz et al., 2023, CC BY 4.0): `phone_acc`, `phone_gyro`,
  `watch_acc`, `watch_gyro` [N, 50, 3] at 50 Hz, `y` the activity and `g` the person.
- avletters.npz: AVLetters (Matthews et al., TPAMI 2002): spoken letters, each said three times by ten
  speakers: `lips` [frames, 60, 80] at 25 Hz and `mfcc` [steps, 26] at 50 Hz, all samples concatenated, with
  `_offsets`, `label` 0 to 25, `rep` 1 to 3 and `speaker`.
- egogestar_video_25x60x80.npz: EgoGestAR: gestures recorded by the camera of a headset: `rgb`
  [N, 25, 60, 80, 3], `label`. The optical flow is computed here (OpenCV: pip install 'equipoise[media]').
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from equipoise.data import write_dataset

EVERY = 6
"""Use every sixth window of the phone and watch data; windows overlap, so little is lost."""


def mosi(arrays: np.lib.npyio.NpzFile, out: Path) -> None:
    write_dataset(
        out,
        {name: arrays[name] for name in ("text", "audio", "video")},
        arrays["label"],
        split=arrays["repo_split"],
        group=arrays["video_id"],
        ids=arrays["id"],
        classes=["negative", "positive"],
        name="cmu-mosi",
        licence="research use; cite Zadeh et al. 2016 and Poria et al. 2017",
        overwrite=True,
    )


def letters(arrays: np.lib.npyio.NpzFile, out: Path) -> None:
    """Use the third repetitions for testing, and every other second repetition for validation."""
    label, rep, speaker = arrays["label"].astype(int), arrays["rep"], arrays["speaker"]
    even = (label + np.unique(speaker, return_inverse=True)[1]) % 2 == 0
    split = np.where(rep == 3, "test", np.where((rep == 2) & even, "val", "train"))
    lips = resampled(halved(arrays["lips"])[:, None], arrays["lips_offsets"], 12)
    write_dataset(
        out,
        {"audio": resampled(arrays["mfcc"], arrays["mfcc_offsets"], 24), "video": lips},
        label,
        split=split,
        classes=[chr(ord("A") + place) for place in range(26)],
        name="avletters",
        licence="research use; cite Matthews et al., TPAMI 2002",
        overwrite=True,
    )


def gestures(arrays: np.lib.npyio.NpzFile, out: Path) -> None:
    known = arrays["label"] != "unclassified"
    frames, (names, target) = (
        arrays["rgb"][known],
        np.unique(arrays["label"][known], return_inverse=True),
    )
    rgb = np.moveaxis(halved(frames), -1, 2)[:, ::6]
    write_dataset(
        out,
        {"rgb": rgb, "flow": np.stack([optical_flow(video) for video in frames])[:, ::3]},
        target,
        classes=[str(name) for name in names],
        name="egogestar",
        licence="none stated: for local use",
        overwrite=True,
    )


def halved(frames: np.ndarray) -> np.ndarray:
    """Return uint8 frames `[..., H, W]` or `[..., H, W, 3]` at half the size, scaled to [0, 1]."""
    rows = frames.ndim - (3 if frames.shape[-1] == 3 else 2)
    small = frames.astype(np.float32) / 255
    for axis in (rows, rows + 1):
        even, odd = (np.take(small, range(first, small.shape[axis], 2), axis) for first in (0, 1))
        small = (even + odd) / 2
    return small


def resampled(flat: np.ndarray, offsets: np.ndarray, steps: int) -> np.ndarray:
    """Return each sample `flat[offsets[i]:offsets[i + 1]]` at `steps` evenly spaced time steps."""
    return np.stack(
        [flat[np.round(np.linspace(first, last - 1, steps)).astype(int)] for first, last in pairwise(offsets)]
    )


def optical_flow(video: np.ndarray) -> np.ndarray:
    """Return the flow `[T - 1, 2, H / 2, W / 2]` between frames `[T, H, W, 3]`, in units of 10 pixels."""
    import cv2

    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video]
    flows = []
    for before, after in pairwise(gray):
        flow = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        flow = cv2.resize(np.clip(flow, -20, 20), (flow.shape[1] // 2, flow.shape[0] // 2), interpolation=3)
        flows.append(np.moveaxis(flow, -1, 0) / 10)
    return np.stack(flows).astype(np.float32)


def activities(arrays: np.lib.npyio.NpzFile, out: Path) -> None:
    taken = slice(None, None, EVERY)
    write_dataset(
        out,
        {name: arrays[name][taken] for name in ("phone_acc", "phone_gyro", "watch_acc", "watch_gyro")},
        np.unique(arrays["y"], return_inverse=True)[1][taken],
        group=arrays["g"][taken],
        classes=[str(name).lower() for name in np.unique(arrays["y"])],
        name="phone-watch",
        licence="CC BY 4.0, Matey-Sanz et al. 2023",
        overwrite=True,
    )


SETS = {
    "mosi_utt.npz": ("cmu-mosi", mosi),
    "sp_sw_har_1s_windows.npz": ("phone-watch", activities),
    "avletters.npz": ("avletters", letters),
    "egogestar_video_25x60x80.npz": ("egogestar", gestures),
}


def main(source: str, out: str) -> None:
    found = [name for name in SETS if (Path(source) / name).is_file()]
    if not found:
        sys.exit(f"{source} contains none of {', '.join(SETS)}.")
    for name in found:
        folder, prepare = SETS[name]
        with np.load(Path(source) / name, allow_pickle=False) as arrays:
            prepare(arrays, Path(out) / folder)
        print(Path(out) / folder)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
