"""Read CMU-MOSI from a NumPy archive of utterances: raw transcripts, and audio features."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final, Literal

import numpy as np

from equipoise.data.format.folder import listed
from equipoise.data.prepare.media.archives import read_archive
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.sentiment.utterances import (
    FOLDS,
    Utterances,
    replace_nonfinite,
    report_nonfinite,
)

ArchiveSplit = Literal["repo", "standard"]
ARCHIVE: Final = "mosi_utt.npz"
COLUMNS: Final = {"repo": "repo_split", "standard": "std_split"}


def read_utterances(path: Path, split: ArchiveSplit, nonfinite: str) -> Utterances:
    """Read `transcript`, `audio` `[N, d]`, `label`, `id`, `video_id` and a split; values are -1 and 1.

    The archive has the sign of the sentiment only: 1 stands for 0 and above. Its features of text and video
    are not read: they were learnt on the training part of `repo_split`, labels included.

    Raises:
        DataError: the file is not such an archive, or a value is not finite and `nonfinite` is `"fail"`.
    """
    column = COLUMNS[split]
    axes = dict.fromkeys(("label", "id", "video_id", "transcript", column), ("N",))
    arrays = read_archive(path, axes | {"audio": ("N", "d")}, "the archive of CMU-MOSI by utterance")
    wrong = sorted(set(arrays["label"].tolist()) - {0, 1}) + sorted(set(arrays[column].tolist()) - set(FOLDS))
    if wrong:
        remedy = f"expected labels 0 and 1, and splits {', '.join(sorted(FOLDS))}"
        raise MediaError(path, "wrong-format", f"has labels or splits {listed(wrong)}", remedy)
    audio = arrays["audio"].astype(np.float32)
    samples = Utterances(
        names=arrays["id"].tolist(),
        videos=arrays["video_id"].tolist(),
        values=np.where(arrays["label"] == 1, 1.0, -1.0),
        splits=np.array([FOLDS[fold] for fold in arrays[column].tolist()], dtype=np.str_),
        inputs={"text": np.empty(0, np.float32), "audio": audio},  # the first position is reserved
        transcripts=arrays["transcript"].tolist(),
        facts={"file": path.name, "layout": "archive", "split": column},
        notes=[
            f"text is the raw transcripts. The text and video features of {path.name} are left out: they "
            "were learnt on the labels of its training part."
        ],
    )
    counts = Counter[str]()
    replace_nonfinite(audio, counts)
    report_nonfinite({"audio": counts}, nonfinite, samples)
    return samples
