"""Write media files and tables from NumPy arrays, as input for `equipoise prepare`.

Usage: python benchmarks/raw_media.py SOURCE_DIR OUT_DIR

SOURCE_DIR contains some of these NumPy archives. Requires pip install 'equipoise[media,table]'.

- egogestar_video_25x60x80.npz (EgoGestAR: gestures recorded by the camera of a headset): each clip is written
  as a lossless video file to OUT_DIR/egogestar/clips, and listed in OUT_DIR/egogestar/gestures.csv.
- mosi_utt.npz (utterances of CMU-MOSI: Zadeh et al., 2016; features of Poria et al., 2017): written to
  OUT_DIR/mosi.parquet, with transcripts as text, and audio and video features as sequences of one step.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

FPS = 25


def gestures(arrays: np.lib.npyio.NpzFile, out: Path) -> None:
    rows = []
    (out / "clips").mkdir(parents=True, exist_ok=True)
    for number, (frames, label) in enumerate(zip(arrays["rgb"], arrays["label"], strict=True)):
        if label != "unclassified":
            write_video(out / "clips" / f"{number:03d}.avi", frames)
            rows.append({"id": f"g{number:03d}", "clip": f"clips/{number:03d}.avi", "target": label})
    pd.DataFrame(rows).to_csv(out / "gestures.csv", index=False)


def write_video(path: Path, frames: np.ndarray) -> None:
    """Write frames `[T, H, W, 3]` with FFV1, a lossless codec."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def mosi(arrays: np.lib.npyio.NpzFile, out: Path) -> None:
    """Keep the original splits: the video features were learnt on the training part, so others would leak."""
    label = np.array(["negative", "positive"])[arrays["label"].astype(int)]
    columns = {
        "id": arrays["id"],
        "text": arrays["transcript"],
        "audio": [[row.tolist()] for row in arrays["audio"]],
        "video": [[row.tolist()] for row in arrays["video"]],
        "target": label,
        "split": arrays["repo_split"],
        "group": arrays["video_id"],
    }
    pd.DataFrame(columns).to_parquet(out)


def main(source: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for file, write, place in (
        ("egogestar_video_25x60x80.npz", gestures, out / "egogestar"),
        ("mosi_utt.npz", mosi, out / "mosi.parquet"),
    ):
        if (source / file).exists():
            with np.load(source / file, allow_pickle=False) as arrays:
                write(arrays, place)
            print(f"{file} -> {place}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
