"""Read CMU-MOSI and CMU-MOSEI from the `.csd` files of the CMU Multimodal SDK, and align them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from equipoise.data.prepare.clips import Lost
from equipoise.data.prepare.sentiment.csd import ComputationalSequence, Sequence, average_over, open_csd
from equipoise.data.prepare.sentiment.utterances import (
    NonFinite,
    Text,
    Utterances,
    parse_name,
    report_nonfinite,
)
from equipoise.types import DataError, UsageError

Align = Literal["words", "even"]
STEPS = 50
_MARKS = {
    "labels": ("label",),
    "words": ("timestampedwords", "words", "transcript"),
    "text": ("wordvectors", "glove", "bert", "text"),
    "audio": ("covarep", "opensmile", "opens", "acoustic", "audio"),
    "vision": ("facet", "openface", "visual", "vision"),
}
"""Role to parts of file names, without blanks and underscores."""
_SILENCE = "sp"


@dataclass
class _Gathered:
    """The samples read so far."""

    names: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    transcripts: list[str] = field(default_factory=list)
    rows: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    found: dict[str, NonFinite] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)
    shortened: int = 0


def find_files(folder: Path, chosen: Mapping[str, str | None], text: Text) -> dict[str, Path]:
    """Find the file of each role among the `.csd` files of a folder.

    Args:
        folder: holds the files.
        chosen: role to file name, or None to find the file automatically.
        text: `"hashed"` needs the words, `"features"` their vectors.

    Raises:
        DataError: a role has no file, or several.
        UsageError: tokens were requested, which these files do not contain.
    """
    if text == "bert-tokens":
        raise UsageError("text is 'bert-tokens', which .csd files do not contain; choose features or hashed.")
    files = sorted(folder.glob("*.csd"))
    by_role: dict[str, list[Path]] = {role: [] for role in _MARKS}
    for file in files:
        plain = "".join(c for c in file.stem.lower() if c.isalnum())
        order = ("labels", "text", "words", "audio", "vision")
        role = next((role for role in order if any(mark in plain for mark in _MARKS[role])), None)
        if role is not None:
            by_role[role].append(file)
    found = {}
    for role in ("labels", "words" if text == "hashed" else "text", "audio", "vision"):
        option = "text" if role == "words" else role
        name = chosen.get(option)
        matches = [folder / name] if name else by_role[role]
        if len(matches) != 1:
            seen = ", ".join(file.name for file in matches or files) or "no .csd file"
            raise DataError(
                f"{folder} has {len(matches)} files for {role} ({seen}); name the one to use with "
                f"{option}-csd."
            )
        found[option] = matches[0]
    return found


def read_utterances(
    files: Mapping[str, Path], text: Text, steps: int, align: Align, nonfinite: str
) -> Utterances:
    """Read one sample for each interval of the labels.

    With `align="words"`, step t is the t-th word that overlaps the interval, and audio and vision are
    averaged over that word. With `"even"`, the interval is divided into `steps` equal parts, and every
    modality is averaged over each part. Longer sequences of words are cut to `steps`, shorter ones padded
    with 0 at the end.

    Args:
        files: `"labels"`, `"text"`, `"audio"` and `"vision"` to file.
        text: `"features"`, or `"hashed"` for the words themselves.
        steps: length of the sequences.
        align: `"words"` or `"even"`.
        nonfinite: `"zero"` (before averaging) or `"fail"`.

    Raises:
        DataError: a file is invalid.
        MissingExtraError: h5py is not installed.
    """
    gathered = _Gathered()
    with ExitStack() as stack:
        sequences = {role: stack.enter_context(open_csd(file)) for role, file in files.items()}
        _check_kinds(sequences, text)
        for video in sequences["labels"].videos:
            _gather(video, sequences, text, steps, align, gathered)
    if not gathered.names:
        raise DataError(
            f"{files['labels']} has no video in common with the other files; use files of one set."
        )
    samples = _samples(gathered)
    samples.facts |= {
        "layout": samples.layout,
        "files": {role: file.name for role, file in files.items()},
        "align": align,
        "steps": steps,
        "shortened": gathered.shortened,
    }
    if gathered.shortened:
        samples.notes.append(f"{gathered.shortened} samples have more than {steps} words and were cut.")
    report_nonfinite(gathered.found, nonfinite, samples)
    return samples


def _samples(gathered: _Gathered) -> Utterances:
    return Utterances(
        layout="CMU Multimodal SDK",
        names=gathered.names,
        videos=gathered.videos,
        values=np.array(gathered.values),
        splits=None,
        inputs={"text": np.empty(0, np.float32)} | {name: np.stack(r) for name, r in gathered.rows.items()},
        transcripts=gathered.transcripts or None,
        lost=gathered.lost,
    )


def _check_kinds(sequences: Mapping[str, ComputationalSequence], text: Text) -> None:
    for role, sequence in sequences.items():
        words = role == "text" and text == "hashed"
        if sequence.holds_words != words:
            found, expected = ("words", "numbers") if sequence.holds_words else ("numbers", "words")
            raise DataError(
                f"{sequence.path} contains {found}; expected {expected} for {role}: name another file."
            )


def _gather(
    video: str,
    sequences: Mapping[str, ComputationalSequence],
    text: Text,
    steps: int,
    align: Align,
    gathered: _Gathered,
) -> None:
    labels = sequences["labels"].read(video)
    names, group = _segment_names(video, len(labels.intervals))
    absent = [role for role, sequence in sequences.items() if video not in sequence]
    if absent:
        file = sequences[absent[0]].path
        line = f"{file} does not have the video {video!r}; get the complete file, or remove it"
        values = labels.features[:, 0].tolist()
        pairs = zip(names, values, strict=True)
        gathered.lost += [Lost(name, file, "missing", f"{line}.", None, value) for name, value in pairs]
        return
    read = {role: sequences[role].read(video) for role in ("text", "audio", "vision")}
    dense = [role for role in read if role != "text" or text == "features"]
    for role in dense:
        read[role] = _finite(read[role], gathered.found.setdefault(role, NonFinite()))
    for name, value, (begin, end) in zip(names, labels.features[:, 0], labels.intervals, strict=True):
        windows, said = _windows(read["text"], begin, end, steps, align)
        gathered.shortened += align == "words" and len(said) > steps
        gathered.names.append(name)
        gathered.videos.append(group)
        gathered.values.append(float(value))
        if text == "hashed":
            gathered.transcripts.append(_spoken(read["text"].features[said]))
        for role in dense:
            row = np.zeros((steps, read[role].features.shape[1]), dtype=np.float32)
            row[: len(windows)] = (
                read[role].features[said[:steps]]
                if role == "text" and align == "words"
                else average_over(read[role], windows)[0]
            )
            gathered.rows.setdefault(role, []).append(row)


def _segment_names(video: str, count: int) -> tuple[list[str], str]:
    name, group = parse_name(video)
    if group != name and count == 1:  # files aligned by the SDK have names of segments, not of videos
        return [name], group
    return [f"{video}[{segment}]" for segment in range(count)], group


def _finite(sequence: Sequence, found: NonFinite) -> Sequence:
    with np.errstate(over="ignore"):
        features = sequence.features.astype(np.float32)
    found.replace(features)
    return Sequence(features.astype(np.float64), sequence.intervals)


def _windows(
    words: Sequence, begin: float, end: float, steps: int, align: Align
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the time windows `[T, 2]` of a segment, and the rows of its words."""
    starts, stops = words.intervals.T
    said = np.flatnonzero((starts < end) & ((stops > begin) | ((starts == stops) & (starts == begin))))
    if align == "even":
        edges = np.linspace(begin, end, steps + 1)
        return np.stack([edges[:-1], edges[1:]], axis=1), said
    return np.clip(words.intervals[said[:steps]], begin, end), said


def _spoken(rows: NDArray[Any]) -> str:
    words = [row.decode("utf-8", "replace") if isinstance(row, bytes) else str(row) for row in rows[:, 0]]
    return " ".join(word for word in words if word != _SILENCE)
