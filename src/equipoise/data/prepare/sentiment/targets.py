"""From utterances with a sentiment to arrays: the targets, the text, what is cut, counted and left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.layout import listed
from equipoise.data.prepare.clips import ArrayPreparation
from equipoise.data.prepare.media.text import hashed_tokens
from equipoise.data.prepare.sentiment import from_csd, from_pickles
from equipoise.data.prepare.sentiment.from_csd import Align
from equipoise.data.prepare.sentiment.samples import (
    MODALITIES,
    Text,
    Utterances,
    apply_folds,
    report_shared_videos,
    unique_names,
)
from equipoise.types import DataError, UsageError

Target = Literal["binary", "binary-nonzero", "seven", "regression"]
Empty = Literal["keep", "drop-text", "drop"]
NonFiniteChoice = Literal["zero", "fail"]
_TOKENS = 50
_LARGEST = 3.0
_CLASSES = {"binary": ("negative", "non-negative"), "binary-nonzero": ("negative", "positive")}


@dataclass(frozen=True)
class SentimentPlan:
    """How utterances become a dataset; the options of CMU-MOSI and CMU-MOSEI, which say what each is."""

    target: Target
    text: Text
    steps: int | None
    vocabulary: int
    empty: Empty
    nonfinite: NonFiniteChoice
    split_file: str | None
    align: Align
    csd: dict[str, str | None]

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UsageError(
                f"steps is {self.steps}; expected at least 1, or none to keep the file's length."
            )
        if self.vocabulary < 2:
            raise UsageError(f"vocabulary is {self.vocabulary}; expected at least 2.")

    def prepare(
        self,
        source: Path,
        known: Sequence[str],
        name: str,
        published: tuple[int, int],
        licence: str,
        origin: str,
    ) -> ArrayPreparation:
        """Read `source` and turn it into the arguments of `write_dataset`.

        Args:
            source: a pickle, or a folder with one of the `known` names or with `.csd` files.
            known: names of pickles.
            name: of the dataset.
            published: utterances and videos of the published dataset, for a note where the source differs.
            licence: terms of use.
            origin: where the data come from.

        Raises:
            DataError: the source is not what it should be.
            UsageError: options that do not fit the source.
            MissingExtraError: `.csd` files without h5py.
        """
        samples = self._read(Path(source), known)
        self._check_values(samples)
        if self.split_file is not None:
            apply_folds(samples, Path(self.split_file).expanduser())
        _report_size(samples, published)
        self._cut(samples)
        self._leave_out(samples)
        report_shared_videos(samples)
        return ArrayPreparation(
            name,
            self._arguments(samples) | {"name": name, "licence": licence, "source": origin},
            samples.lost,
            {**samples.facts, "target": self.target, "text": self.text},
            tuple(samples.notes),
        )

    def _arguments(self, samples: Utterances) -> dict[str, Any]:
        target = self._target(samples)
        ids, changed = unique_names(samples.names)
        samples.facts["renamed_duplicates"] = changed
        if changed:
            samples.notes.append(
                f"{changed} utterances had the id of an earlier one and got '#2' (and so on) behind it."
            )
        return target | {
            "inputs": {name: samples.inputs[name] for name in MODALITIES},
            "kinds": None if self.text == "features" else {"text": "tokens"},
            "split": samples.splits,
            "group": samples.videos,
            "ids": ids,
        }

    def _read(self, source: Path, known: Sequence[str]) -> Utterances:
        file = find_source(source, known)
        if file.is_dir():
            steps = self.steps or from_csd.STEPS
            files = from_csd.find_files(file, self.csd, self.text)
            samples = from_csd.read_utterances(files, self.text, steps, self.align, self.nonfinite)
        else:
            samples = from_pickles.read_utterances(file, self.text, self.nonfinite)
        if samples.transcripts is not None:
            length = self.steps or _TOKENS
            rows = [hashed_tokens(words, length, self.vocabulary) for words in samples.transcripts]
            samples.inputs["text"] = np.stack(rows)
            samples.facts["vocabulary"] = self.vocabulary
        return samples

    def _check_values(self, samples: Utterances) -> None:
        bad = np.flatnonzero(~(np.abs(samples.values) <= _LARGEST))
        if len(bad):
            names = [f"{samples.names[row]} ({samples.values[row]:g})" for row in bad]
            raise DataError(
                f"{len(bad)} sentiments are not within -3 and 3 ({listed(names)}); take the file of "
                "sentiments, or a copy that is whole."
            )

    def _cut(self, samples: Utterances) -> None:
        """Bring sequences to `steps`: what a sample holds without its padding, from the start."""
        dense = {name: x for name, x in samples.inputs.items() if x.ndim == 3}
        if self.steps is not None:
            spans = {name: _content(x) for name, x in dense.items()}
            if len({x.shape[1] for x in dense.values()}) == 1:  # aligned: one clock for all modalities
                first = np.min([begin for begin, _ in spans.values()], axis=0)
                last = np.max([end for _, end in spans.values()], axis=0)
                spans = dict.fromkeys(spans, (first, last))
            for name, x in dense.items():
                samples.inputs[name] = _resized(x, *spans[name], self.steps)
            tokens = samples.inputs["text"]
            if tokens.dtype.kind == "i":
                samples.inputs["text"] = _length(tokens, self.steps)
            samples.facts["steps"] = self.steps

    def _leave_out(self, samples: Utterances) -> None:
        empty = {name: ~x.any(axis=tuple(range(1, x.ndim))) for name, x in samples.inputs.items()}
        counts = {name: int(rows.sum()) for name, rows in empty.items()}
        keep = np.ones(len(samples.names), dtype=np.bool_)
        for name in {"keep": (), "drop-text": ("text",), "drop": MODALITIES}[self.empty]:
            keep &= ~empty[name]
        samples.facts["empty"] = {**counts, "left_out": int((~keep).sum())}
        for name, count in counts.items():
            if count:
                kept = (
                    "left out"
                    if self.empty == "drop" or (self.empty, name) == ("drop-text", "text")
                    else "kept"
                )
                samples.notes.append(f"{name}: nothing but zeros in {count} samples, which were {kept}.")
        if self.target == "binary-nonzero":
            zero = keep & (samples.values == 0)
            samples.facts["zero_left_out"] = int(zero.sum())
            samples.notes.append(
                f"{int(zero.sum())} samples with the sentiment 0 are left out by the target."
            )
            keep &= ~zero
        if not keep.any():
            raise DataError("no sample is left; choose another target, or keep samples that are empty.")
        samples.select(keep)

    def _target(self, samples: Utterances) -> dict[str, Any]:
        if self.target == "regression":
            return {"task": "regression", "target": samples.values}
        if self.target == "seven":
            # numpy.rint rounds halves to even, as the evaluation of MulT and MMSA does.
            labels = np.rint(samples.values).astype(np.int64)
            classes = [str(label) for label in np.unique(labels).tolist()]
        else:
            labels = (samples.values >= 0).astype(np.int64)
            classes = [_CLASSES[self.target][label] for label in np.unique(labels).tolist()]
        if samples.splits is not None:
            for split in np.unique(samples.splits).tolist():
                absent = np.setdiff1d(labels, labels[samples.splits == split]).tolist()
                if absent:
                    samples.notes.append(
                        f"the split {split} has no sample of {listed(absent)}; choose another target."
                    )
        return {"target": labels, "classes": classes}


def find_source(source: Path, known: Sequence[str]) -> Path:
    """Return the pickle that `source` is or holds, or the folder that holds `.csd` files.

    Raises:
        DataError: there is none, or more than one.
    """
    if source.is_file():
        return source.parent if source.suffix == ".csd" else source
    places = [source, *sorted(path for path in source.glob("*") if path.is_dir())] if source.is_dir() else []
    pickles = [place / name for place in places for name in known if (place / name).is_file()]
    folders = [place for place in places if any(place.glob("*.csd"))]
    found = pickles or folders
    if len(found) == 1:
        return found[0]
    expected = f"one of {', '.join(known)}, or the .csd files of the SDK"
    if not found:
        what = "has no file of a known name" if places else "is not there"
        raise DataError(f"{source} {what}; expected {expected}: give the file itself as the source.")
    names = [str(path.relative_to(source)) for path in found]
    raise DataError(f"{source} holds {listed(names, 6)}; give the one to use as the source.")


def _report_size(samples: Utterances, published: tuple[int, int]) -> None:
    found = len(samples.names), len(set(samples.videos))
    samples.facts["utterances"], samples.facts["videos"] = found
    if found != published:
        samples.notes.append(
            f"the source has {found[0]} utterances of {found[1]} videos, the published one {published[0]} "
            f"of {published[1]}; compare results on one file only."
        )


def _content(x: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where each sequence `[N, T, d]` begins and ends but for its padding; `(T, 0)` if it is empty."""
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


def _length(tokens: NDArray[Any], length: int) -> NDArray[Any]:
    out = np.zeros((len(tokens), length), dtype=tokens.dtype)
    kept = tokens[:, :length]
    out[:, : kept.shape[1]] = kept
    return out
