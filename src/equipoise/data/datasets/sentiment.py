"""CMU-MOSI and CMU-MOSEI: utterances with a sentiment from pickles or `.csd` files, and their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.format.folder import listed, visible
from equipoise.data.prepare.clips import ArrayPreparation
from equipoise.data.prepare.media.text import hashed_tokens
from equipoise.data.prepare.sentiment import from_archive, from_csd, from_pickles
from equipoise.data.prepare.sentiment.from_csd import Align
from equipoise.data.prepare.sentiment.utterances import (
    MODALITIES,
    Text,
    Utterances,
    apply_folds,
    check_values,
    cut,
    report_shared_videos,
    report_size,
    unique_names,
)
from equipoise.types import DataError, PathError, UsageError

Target = Literal["binary", "binary-nonzero", "seven", "regression"]
Empty = Literal["keep", "drop-text", "drop"]
_DROPPED: dict[Empty, tuple[str, ...]] = {"keep": (), "drop-text": ("text",), "drop": MODALITIES}
_CLASSES = {"binary": ("negative", "non-negative"), "binary-nonzero": ("negative", "positive")}
OF_CSD = ("align", "labels_csd", "text_csd", "audio_csd", "vision_csd")
TOKENS = 50  # hashed words of a text by default


@dataclass(frozen=True, kw_only=True)
class SentimentDataset(SourceDataset):
    """Base of the datasets of utterances with a sentiment of -3 to 3.

    Attributes:
        known: names of the published pickles.
        published: numbers of utterances and videos of the published dataset.
        target: "binary" (negative, non-negative), "binary-nonzero" (negative, positive; without 0),
            "seven" (the sentiment rounded to -3 to 3) or "regression" (the sentiment itself).
        text: "features" (word vectors of the file), "bert-tokens" (token numbers, if the file has
            text_bert), "hashed" (words hashed into buckets), or "auto": hashed if the file has only words,
            else features.
        steps: length of all sequences; by default that of the file, and 50 for .csd files and hashed words.
        vocabulary: number of buckets for hashed words.
        empty: action for samples with only zeros in a modality: "keep", "drop-text" (drop if it is
            the text) or "drop".
        nonfinite: action for values that are not finite: "zero" or "fail".
        split_file: CSV file with the columns video_id and fold (train, valid, test), used instead of the
            splits of the source.
        align: for .csd files: a step is a word ("words"), or an equal part of the utterance ("even").
        labels_csd: name of the .csd file with the labels, if it is not found automatically.
        text_csd: name of the .csd file with word vectors, or with words for hashed text.
        audio_csd: name of the .csd file with the audio features.
        vision_csd: name of the .csd file with the visual features.
    """

    modalities = MODALITIES
    licence = "research use, as its authors ask for; see the source"
    source = "https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK"
    known: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[tuple[int, int]] = (0, 0)

    target: Target = "binary"
    text: Literal["auto", Text] = "auto"
    steps: int | None = None
    vocabulary: int = 8192
    empty: Empty = "keep"
    nonfinite: Literal["zero", "fail"] = "zero"
    split_file: str | None = None
    align: Align = "words"
    labels_csd: str | None = None
    text_csd: str | None = None
    audio_csd: str | None = None
    vision_csd: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps is {self.steps}; expected at least 1, or none for the file's length.")
        if self.vocabulary < 2:
            raise UsageError(f"vocabulary is {self.vocabulary}; expected at least 2.")

    def plan(self, source: Path) -> ArrayPreparation:
        """Read a pickle or `.csd` files into arrays; see `SourceDataset.plan`."""
        samples = self._read(Path(source))
        check_values(samples)
        if self.split_file is not None:
            apply_folds(samples, Path(self.split_file).expanduser())
        report_size(samples, self.published)
        if self.steps is not None:
            cut(samples, self.steps)
        _drop_samples(samples, self.empty, self.target)
        report_shared_videos(samples)
        ids, changed = unique_names(samples.names)
        arguments = {
            **_target_columns(samples, self.target),
            "inputs": {name: samples.inputs[name] for name in MODALITIES if name in samples.inputs},
            "kinds": {"text": "tokens"} if samples.inputs["text"].dtype.kind == "i" else None,
            "split": samples.splits,
            "group": samples.videos,
            "ids": ids,
            "name": self.name,
            "licence": self.licence,
            "source": self.origin,
        }
        if changed:
            samples.notes.append(
                f"{changed} utterances had a repeated id and were renamed to end in '#2' (and so on)."
            )
        facts = {**samples.facts, "renamed_duplicates": changed, "target": self.target}
        return ArrayPreparation(self.name, arguments, samples.lost, facts, tuple(samples.notes))

    def _read(self, source: Path) -> Utterances:
        file = find_source(source, self.known)
        samples = self._utterances(file)
        if samples.transcripts is not None:
            length = self.steps or TOKENS
            rows = [hashed_tokens(words, length, self.vocabulary) for words in samples.transcripts]
            samples.inputs["text"] = np.stack(rows)
            samples.facts["vocabulary"] = self.vocabulary
        else:
            self._refuse(("vocabulary",), "hashed words", file)
        samples.facts["text"] = self.text
        if self.text == "auto":
            samples.facts["text"] = "features" if samples.transcripts is None else "hashed"
        return samples

    def _utterances(self, file: Path) -> Utterances:
        """Read a pickle, or a folder of `.csd` files."""
        text = "features" if self.text == "auto" else self.text
        if not file.is_dir():
            self._refuse(OF_CSD, ".csd files", file)
            return from_pickles.read_utterances(file, text, self.nonfinite)
        chosen = {role: getattr(self, f"{role}_csd") for role in ("labels", *MODALITIES)}
        files = from_csd.find_files(file, chosen, text)
        steps = self.steps or from_csd.STEPS
        return from_csd.read_utterances(files, text, steps, self.align, self.nonfinite)

    def _refuse(self, names: Sequence[str], sources: str, found: Path) -> None:
        """Refuse options that only other sources have, instead of ignoring them."""
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name in names and value != option.default:
                raise UsageError(f"{option.name} is {value!r}, which is for {sources}; found {found.name}.")


@dataclass(frozen=True, kw_only=True)
class CMUMOSI(SentimentDataset):
    """CMU-MOSI: 2199 utterances of 93 videos in which one person reviews a film, with a sentiment of -3 to 3.

    For the other options see `SentimentDataset`.

    Attributes:
        split: of the archive mosi_utt.npz: "repo" (62 and 31 videos; a part of the 62 is for validation) or
            "standard" (52, 10 and 31 videos).
    """

    name = "cmu-mosi"
    description = "sentiment of film reviews: text, audio, vision; 2199 utterances of 93 videos"
    citation = (
        "Zadeh et al., MOSI: Multimodal Corpus of Sentiment Intensity and Subjectivity Analysis in Online "
        "Opinion Videos, arXiv:1606.06259, 2016"
    )
    bibtex = ("zadeh2016mosi",)
    expected = (
        "mosi_raw.pkl, mosi_data.pkl, aligned_50.pkl or unaligned_50.pkl; or the .csd files of the SDK; or "
        f"one archive {from_archive.ARCHIVE}"
    )
    size = "some hundred MB, by the file"
    known = (
        "mosi_raw.pkl",
        "mosi_data.pkl",
        "mosi_data_noalign.pkl",
        "aligned_50.pkl",
        "unaligned_50.pkl",
        from_archive.ARCHIVE,
    )
    published = (2199, 93)

    split: from_archive.ArchiveSplit = "repo"

    def _utterances(self, file: Path) -> Utterances:
        if file.suffix != ".npz":
            self._refuse(("split",), from_archive.ARCHIVE, file)
            return super()._utterances(file)
        self._refuse(OF_CSD, ".csd files", file)
        if self.target != "binary":
            raise UsageError(
                f"target is {self.target!r}, but {file.name} has only the sign of the sentiment; expected "
                "'binary', or one of the pickles."
            )
        if self.text not in ("auto", "hashed"):
            raise UsageError(
                f"text is {self.text!r}, but {file.name} has raw transcripts, and features learnt on "
                "labels; expected 'auto' or 'hashed', or one of the pickles."
            )
        return from_archive.read_utterances(file, self.split, self.nonfinite)


@dataclass(frozen=True, kw_only=True)
class CMUMOSEI(SentimentDataset):
    """CMU-MOSEI: 23,453 utterances of 3228 videos of one speaker each, with a sentiment of -3 to 3.

    For the options see `SentimentDataset`.
    """

    name = "cmu-mosei"
    description = "sentiment of monologues: text, audio, vision; about 23,000 utterances"
    citation = (
        "Zadeh et al., Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable Dynamic "
        "Fusion Graph, ACL 2018"
    )
    bibtex = ("zadeh2018mosei",)
    expected = "mosei_senti_data.pkl, aligned_50.pkl or unaligned_50.pkl; or the .csd files of the SDK"
    size = "several GB, by the file"
    known = (
        "mosei_senti_data.pkl",
        "mosei_senti_data_noalign.pkl",
        "mosei_raw.pkl",
        "aligned_50.pkl",
        "unaligned_50.pkl",
    )
    published = (23453, 3228)


def find_source(source: Path, known: Sequence[str]) -> Path:
    """Return the pickle that `source` is or holds under a `known` name, or the folder of `.csd` files.

    Raises:
        PathError: there is none, or more than one.
    """
    if source.is_file():
        return source.parent if source.suffix == ".csd" else source
    places = (
        [source, *(path for path in visible(source.glob("*")) if path.is_dir())] if source.is_dir() else []
    )
    pickles = [place / name for place in places for name in known if (place / name).is_file()]
    folders = [place for place in places if visible(place.glob("*.csd"))]
    found = pickles or folders
    if len(found) == 1:
        return found[0]
    if not found:
        what = "has no file of a known name" if places else "is missing"
        raise PathError(
            f"{source} {what}; expected one of {', '.join(known)}, or the .csd files of the SDK: give the "
            "file itself as the source."
        )
    names = [str(path.relative_to(source)) for path in found]
    raise PathError(f"{source} holds {listed(names, 6)}; give the one to use as the source.")


def _drop_samples(samples: Utterances, empty: Empty, target: Target) -> None:
    """Remove samples with an empty modality, as `empty` says, and those that the target excludes."""
    zeros = {name: ~x.any(axis=tuple(range(1, x.ndim))) for name, x in samples.inputs.items()}
    counts = {name: int(rows.sum()) for name, rows in zeros.items()}
    keep = np.ones(len(samples.names), dtype=np.bool_)
    for name in _DROPPED[empty]:
        keep &= ~zeros[name]
    samples.facts["empty"] = {**counts, "left_out": int((~keep).sum())}
    for name, count in counts.items():
        if count:
            action = "removed" if name in _DROPPED[empty] else "kept"
            samples.notes.append(f"{name}: {count} samples contain only zeros and were {action}.")
    if target == "binary-nonzero":
        zero = keep & (samples.values == 0)
        samples.facts["zero_left_out"] = int(zero.sum())
        samples.notes.append(f"the target excludes {int(zero.sum())} samples with the sentiment 0.")
        keep &= ~zero
    if not keep.any():
        raise DataError("no sample is left; choose another target, or keep samples that are empty.")
    samples.select(keep)


def _target_columns(samples: Utterances, target: Target) -> dict[str, Any]:
    """Return the arguments `target`, and `classes` or `task`, of `write_dataset`."""
    if target == "regression":
        return {"task": "regression", "target": samples.values}
    if target == "seven":
        # numpy.rint rounds halves to even, like the evaluation of MulT and MMSA.
        labels = np.rint(samples.values).astype(np.int64)
        classes = [str(label) for label in np.unique(labels).tolist()]
    else:
        labels = (samples.values >= 0).astype(np.int64)
        classes = [_CLASSES[target][label] for label in np.unique(labels).tolist()]
    if samples.splits is not None:
        for split in np.unique(samples.splits).tolist():
            absent = np.setdiff1d(labels, labels[samples.splits == split]).tolist()
            if absent:
                samples.notes.append(
                    f"the split {split} has no sample of {listed(absent)}; choose another target."
                )
    return {"target": labels, "classes": classes}
