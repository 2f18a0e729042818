"""Turn downloaded arrays into the prepared datasets of docs/results: three and four modalities.

Usage: python benchmarks/prepare_sets.py SOURCE_DIR OUT_DIR

SOURCE_DIR holds either or both of these NumPy archives:

- mosi_utt.npz: CMU-MOSI by utterance (Zadeh et al., 2016; features of Poria et al., 2017): `text` [N, 100],
  `audio` [N, 73], `video` [N, 100], `label`, `id`, `video_id` and `repo_split`, the split on whose train part
  the text and video features were learnt, hence the only one that is honest.
- sp_sw_har_1s_windows.npz: phone and watch (Matey-Sanz et al., 2023, CC BY 4.0): `phone_acc`, `phone_gyro`,
  `watch_acc`, `watch_gyro` [N, 50, 3] at 50 Hz, `y` the activity and `g` the person.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from equipoise.data import write_dataset

EVERY = 6
"""Of the windows of the phones and watches every sixth is taken: they overlap, so that little is lost."""


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


SETS = {"mosi_utt.npz": ("cmu-mosi", mosi), "sp_sw_har_1s_windows.npz": ("phone-watch", activities)}


def main(source: str, out: str) -> None:
    found = [name for name in SETS if (Path(source) / name).is_file()]
    if not found:
        sys.exit(f"{source} holds none of {', '.join(SETS)}")
    for name in found:
        folder, prepare = SETS[name]
        with np.load(Path(source) / name, allow_pickle=False) as arrays:
            prepare(arrays, Path(out) / folder)
        print(Path(out) / folder)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
