"""Read CMU-MOSI and CMU-MOSEI from the `.csd` files of the CMU Multimodal SDK, and align them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.folder import visible
from equipoise.data.prepare.clips import Lost
from equipoise.data.prepare.sentiment.csd import (
    ComputationalSequence,
    Sequence,
    average_over,
    open_csd,
    rows_within,
)
from equipoise.data.prepare.sentiment.utterances import (
    Text,
    Utterances,
    as_text,
    parse_name,
    replace_nonfinite,
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


class _Segment(NamedTuple):
    """An utterance: name, video, sentiment, number of words, the words if needed, features `[steps, d]`."""

    name: str
    video: str
    value: float
    words: int
    transcript: str
    features: dict[str, NDArray[np.float32]]


def find_files(folder: Path, chosen: Mapping[str, str | None], text: Text) -> dict[str, Path]:
    """Find the file of each role among the `.csd` files of a folder.

    `chosen` gives the name of the file of a role, or None to find it automatically. Hashed text needs the
    words, features their vectors.

    Raises:
        DataError: a role has no file, or several.
        UsageError: tokens were requested, which these files do not contain.
    """
    if text == "bert-tokens":
        raise UsageError("text is 'bert-tokens', which .csd files do not contain; choose features or hashed.")
    files = visible(folder.glob("*.csd"))
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
    with 0 at the end. `nonfinite="zero"` replaces values before averaging, `"fail"` refuses them.

    Raises:
        DataError: a file is invalid.
        MissingExtraError: h5py is not installed.
    """
    lost: list[Lost] = []
    segments: list[_Segment] = []
    nonfinite_counts: dict[str, Counter[str]] = {}
    with ExitStack() as stack:
        sequences = {role: stack.enter_context(open_csd(file)) for role, file in files.items()}
        _check_kinds(sequences, text)
        for video in sequences["labels"].videos:
            if absent := [sequence for sequence in sequences.values() if video not in sequence]:
                lost += _lost(video, sequences["labels"], absent[0].path)
            else:
                segments += _segments(video, sequences, text, steps, align, nonfinite_counts)
    if not segments:
        raise DataError(
            f"{files['labels']} has no video in common with the other files; use files of one set."
        )
    shortened = sum(segment.words > steps for segment in segments) if align == "words" else 0
    inputs: dict[str, NDArray[Any]] = {"text": np.empty(0, np.float32)}  # reserves the first position
    inputs |= {role: np.stack([one.features[role] for one in segments]) for role in segments[0].features}
    samples = Utterances(
        names=[segment.name for segment in segments],
        videos=[segment.video for segment in segments],
        values=np.array([segment.value for segment in segments]),
        splits=None,
        inputs=inputs,
        transcripts=[segment.transcript for segment in segments] if text == "hashed" else None,
        lost=lost,
        facts={
            "layout": "CMU Multimodal SDK",
            "files": {role: file.name for role, file in files.items()},
            "align": align,
            "steps": steps,
            "shortened": shortened,
        },
    )
    if shortened:
        samples.notes.append(f"{shortened} samples have more than {steps} words and were cut.")
    report_nonfinite(nonfinite_counts, nonfinite, samples)
    return samples


def _check_kinds(sequences: Mapping[str, ComputationalSequence], text: Text) -> None:
    for role, sequence in sequences.items():
        words = role == "text" and text == "hashed"
        if sequence.holds_words != words:
            found, expected = ("words", "numbers") if sequence.holds_words else ("numbers", "words")
            raise DataError(
                f"{sequence.path} contains {found}; expected {expected} for {role}: name another file."
            )


def _lost(video: str, labels: ComputationalSequence, file: str) -> Iterator[Lost]:
    """Yield the segments of a video that `file` lacks."""
    values = labels.read(video).features[:, 0].tolist()
    names, _ = _segment_names(video, len(values))
    message = f"{file} does not have the video {video!r}; get the complete file, or remove it."
    for name, value in zip(names, values, strict=True):
        yield Lost(name, file, "missing", message, None, value)


def _segments(
    video: str,
    sequences: Mapping[str, ComputationalSequence],
    text: Text,
    steps: int,
    align: Align,
    counts: dict[str, Counter[str]],
) -> Iterator[_Segment]:
    """Yield the segments of a video; see `read_utterances`. `counts` is that of `replace_nonfinite`."""
    labels, words = sequences["labels"].read(video), sequences["text"].read(video)
    names, group = _segment_names(video, len(labels.intervals))
    dense = {role: sequences[role].read(video) for role in ("audio", "vision")}
    if text == "features":
        dense = {"text": words, **dense}
    for role, sequence in dense.items():
        dense[role] = _finite(sequence, counts.setdefault(role, Counter()))
    for name, value, (begin, end) in zip(names, labels.features[:, 0], labels.intervals, strict=True):
        said = rows_within(words, begin, end)
        if align == "even":
            edges = np.linspace(begin, end, steps + 1)
            windows = np.stack([edges[:-1], edges[1:]], axis=1)
        else:
            windows = np.clip(words.intervals[said[:steps]], begin, end)
        features = {}
        for role, sequence in dense.items():
            of_words = role == "text" and align == "words"
            rows = sequence.features[said[:steps]] if of_words else average_over(sequence, windows)
            features[role] = np.zeros((steps, rows.shape[1]), dtype=np.float32)
            features[role][: len(rows)] = rows
        transcript = _spoken(words.features[said]) if text == "hashed" else ""
        yield _Segment(name, group, float(value), len(said), transcript, features)


def _segment_names(video: str, count: int) -> tuple[list[str], str]:
    name, group = parse_name(video)
    if group != name and count == 1:  # files aligned by the SDK have names of segments, not of videos
        return [name], group
    return [f"{video}[{segment}]" for segment in range(count)], group


def _finite(sequence: Sequence, counts: Counter[str]) -> Sequence:
    with np.errstate(over="ignore"):
        features = sequence.features.astype(np.float32)
    replace_nonfinite(features, counts)
    return Sequence(features.astype(np.float64), sequence.intervals)


def _spoken(rows: NDArray[Any]) -> str:
    return " ".join(word for word in map(as_text, rows[:, 0]) if word != _SILENCE)
