"""Utterances with a sentiment, read from any source, and the operations common to all sources."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from equipoise.data.format.content import chunks
from equipoise.data.format.folder import listed
from equipoise.data.prepare.clips import Lost
from equipoise.files.untrusted import parsing
from equipoise.types import DataError, PathError

Text = Literal["features", "bert-tokens", "hashed"]
MODALITIES = ("text", "audio", "vision")
FOLDS = {"train": "train", "valid": "val", "validation": "val", "val": "val", "dev": "val", "test": "test"}
_SEGMENT = re.compile(r"(?P<video>.+?)(?:\$_\$\d+|\[\d+\])")
_NUMBERED = re.compile(r"(?P<video>.+)_\d+")
_VIDEO_LENGTH = 11
_LARGEST = 3.0


@dataclass
class Utterances:
    """The utterances of a source.

    Attributes:
        names: of the utterances in the source `[N]`; not necessarily unique.
        videos: the video of each `[N]`.
        values: sentiment of each, -3 to 3 `[N]`.
        splits: split of each `[N]`, or None if the source has no splits.
        inputs: modality to float32 features `[N, T, d]` or `[N, d]`, or int32 tokens `[N, T]`.
        transcripts: spoken words of each `[N]`, if hashed text was requested.
        lost: samples that could not be used.
        facts: see `Preparation`.
        notes: see `Preparation`.
    """

    names: list[str]
    videos: list[str]
    values: NDArray[np.float64]
    splits: NDArray[np.str_] | None
    inputs: dict[str, NDArray[Any]]
    transcripts: list[str] | None = None
    lost: list[Lost] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def select(self, keep: NDArray[np.bool_]) -> None:
        """Remove the utterances whose entry in `keep` `[N]` is false."""
        if keep.all():
            return
        rows = np.flatnonzero(keep)
        self.names, self.videos = [self.names[row] for row in rows], [self.videos[row] for row in rows]
        self.values = self.values[keep]
        self.splits = None if self.splits is None else self.splits[keep]
        if self.transcripts is not None:
            self.transcripts = [self.transcripts[row] for row in rows]
        for name in list(self.inputs):  # one at a time, so that only one copy exists
            self.inputs[name] = self.inputs[name][keep]


def replace_nonfinite(values: NDArray[np.float32], counts: Counter[str]) -> None:
    """Replace the values of `[n, ...]` (n samples) that are not finite by 0.

    `counts` counts them by kind (`"nan"`, `"inf"`, `"-inf"`), and the `"samples"` with such values.
    """
    for part in chunks(len(values), values[:1].nbytes):
        piece = values[part]
        bad = ~np.isfinite(piece)
        if bad.any():
            found = piece[bad]
            counts["nan"] += int(np.isnan(found).sum())
            counts["inf"] += int(np.isposinf(found).sum())
            counts["-inf"] += int(np.isneginf(found).sum())
            counts["samples"] += int(bad.reshape(len(piece), -1).any(axis=1).sum())
            piece[bad] = 0


def report_nonfinite(found: Mapping[str, Counter[str]], how: str, samples: Utterances) -> None:
    """Add the counts of each modality, see `replace_nonfinite`, to facts and notes of `samples`.

    Raises:
        DataError: `how` is `"fail"` and a value is not finite.
    """
    counts = {name: {kind: n for kind, n in counted.items() if n} for name, counted in found.items()}
    samples.facts["nonfinite"] = counts
    for name, count in counts.items():
        if not count:
            continue
        values = " and ".join(f"{n} values {kind}" for kind, n in count.items() if kind != "samples")
        line = f"{name}: {values} in {count['samples']} samples"
        if how == "fail":
            raise DataError(f"{line}; expected finite features: repair the source, or choose nonfinite zero.")
        samples.notes.append(f"{line}; they were replaced by 0.")


def parse_name(name: Any) -> tuple[str, str]:
    """Return the name of an utterance and its video, from any published form.

    These are `"VIDEO$_$3"`, `"VIDEO[3]"`, `"VIDEO_3"`, and rows of video, begin and end, as texts or bytes.
    A text of eleven characters is the name of a video: YouTube ids may also end in `_3`.
    """
    if isinstance(name, (list, tuple, np.ndarray)):
        parts = [as_text(part) for part in np.asarray(name, dtype=object).ravel()]
        if len(parts) > 1:
            return f"{parts[0]}[{','.join(parts[1:])}]", parts[0]
        name = parts[0] if parts else ""
    text = as_text(name)
    match = _SEGMENT.fullmatch(text) or (_NUMBERED.fullmatch(text) if len(text) != _VIDEO_LENGTH else None)
    return text, match["video"] if match else text


def as_text(value: Any) -> str:
    """Return a text, or the text that bytes encode."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def unique_names(names: Sequence[str]) -> tuple[list[str], int]:
    """Append `#2`, `#3`... to repeated names; return the names and the number of changes."""
    taken, seen, unique = set(names), Counter[str](), []
    for name in names:
        seen[name] += 1
        new = name
        while seen[name] > 1 and new in taken:
            new = f"{name}#{seen[name]}"
            seen[name] += new in taken
        taken.add(new)
        unique.append(new)
    return unique, sum(old != new for old, new in zip(names, unique, strict=True))


def read_folds(path: Path) -> dict[str, str]:
    """Read a table with the columns `video_id` and `fold`; return video to `"train"`, `"val"` or `"test"`.

    Raises:
        PathError: there is no such file.
        DataError: it cannot be read, lacks a column, has an unknown fold, or a video in two folds.
    """
    if not path.is_file():
        raise PathError(f"{path} does not exist; expected a CSV file with the columns video_id and fold.")
    with parsing(
        lambda found: DataError(f"{path} cannot be read ({found}); give a CSV file with video_id and fold.")
    ):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not {"video_id", "fold"} <= set(table.columns):
        raise DataError(
            f"{path} has the columns {listed(list(table.columns), 5)}; expected video_id and fold."
        )
    folds: dict[str, str] = {}
    for row, (video, fold) in enumerate(zip(table["video_id"], table["fold"], strict=True), start=2):
        split = FOLDS.get(fold.strip().lower())
        if split is None:
            raise DataError(f"{path}, line {row}: the fold is {fold!r}; expected train, valid or test.")
        if folds.setdefault(video.strip(), split) != split:
            raise DataError(
                f"{path}, line {row}: {video!r} has another fold in an earlier line; give it one fold."
            )
    return folds


def apply_folds(samples: Utterances, path: Path) -> None:
    """Replace the splits of `samples` by the folds of the table at `path`; see `read_folds`.

    Raises:
        DataError: a video of the samples is not in the table.
    """
    folds = read_folds(path)
    absent = sorted(set(samples.videos) - set(folds))
    if absent:
        raise DataError(f"{path} gives no fold for {len(absent)} videos ({listed(absent)}); add them to it.")
    unused = sorted(set(folds) - set(samples.videos))
    if unused:
        samples.notes.append(f"{len(unused)} videos of {path.name} are not in the source ({listed(unused)}).")
    samples.splits = np.array([folds[video] for video in samples.videos], dtype=np.str_)
    samples.facts["split_file"] = {"name": path.name, "videos": len(folds), "unused": len(unused)}


def report_shared_videos(samples: Utterances) -> None:
    """Count the videos that are in several splits, in facts and notes of `samples`."""
    if samples.splits is None:
        return
    where: dict[str, set[str]] = {}
    for video, split in zip(samples.videos, samples.splits.tolist(), strict=True):
        where.setdefault(video, set()).add(split)
    shared = sorted(video for video, splits in where.items() if len(splits) > 1)
    samples.facts["videos_in_several_splits"] = len(shared)
    if shared:
        rows = sum(len(where[video]) > 1 for video in samples.videos)
        samples.notes.append(
            f"{len(shared)} videos ({rows} samples) are in more than one split ({listed(shared)}), so that "
            "training and test share speakers; give folds by video with split-file."
        )


def check_values(samples: Utterances) -> None:
    """Raise DataError if a sentiment is not in [-3, 3]."""
    bad = np.flatnonzero(~(np.abs(samples.values) <= _LARGEST))
    if len(bad):
        names = [f"{samples.names[row]} ({samples.values[row]:g})" for row in bad]
        raise DataError(
            f"{len(bad)} sentiments are not between -3 and 3 ({listed(names)}); use the file of "
            "sentiments, or an undamaged copy."
        )


def report_size(samples: Utterances, published: tuple[int, int]) -> None:
    """Record the numbers of utterances and videos; add a note if they are not the published ones."""
    found = len(samples.names), len(set(samples.videos))
    samples.facts["utterances"], samples.facts["videos"] = found
    if found != published:
        samples.notes.append(
            f"the source has {found[0]} utterances of {found[1]} videos, the published dataset "
            f"{published[0]} of {published[1]}; compare only results on the same file."
        )


def cut(samples: Utterances, steps: int) -> None:
    """Cut or pad all sequences to `steps`, from their first step that is not padding."""
    dense = {name: x for name, x in samples.inputs.items() if x.ndim == 3}
    spans = {name: _content(x) for name, x in dense.items()}
    if len({x.shape[1] for x in dense.values()}) == 1:  # aligned: modalities have common steps
        first = np.min([begin for begin, _ in spans.values()], axis=0)
        last = np.max([end for _, end in spans.values()], axis=0)
        spans = dict.fromkeys(spans, (first, last))
    for name, x in dense.items():
        samples.inputs[name] = _resized(x, *spans[name], steps)
    tokens = samples.inputs["text"]
    if tokens.dtype.kind == "i":
        padded = np.zeros((len(tokens), steps), dtype=tokens.dtype)
        padded[:, : tokens.shape[1]] = tokens[:, :steps]
        samples.inputs["text"] = padded
    samples.facts["steps"] = steps


def _content(x: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return begin and end of each sequence `[N, T, d]` without its padding; `(T, 0)` if it is empty."""
    filled: NDArray[np.bool_] = np.any(x, axis=2)
    steps = filled.shape[1]
    some: NDArray[np.bool_] = np.any(filled, axis=1)
    first = np.where(some, filled.argmax(axis=1), steps)
    return first, np.where(some, steps - filled[:, ::-1].argmax(axis=1), 0)


def _resized(x: NDArray[Any], first: NDArray[np.intp], last: NDArray[np.intp], steps: int) -> NDArray[Any]:
    out = np.zeros((len(x), steps, x.shape[2]), dtype=x.dtype)
    for row, (begin, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        kept = x[row, begin : min(end, begin + steps)]
        out[row, : len(kept)] = kept
    return out
