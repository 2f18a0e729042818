"""The page of a prepared dataset: what a person should look at before training on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.normalize import fit_normalizer
from equipoise.data.format.prepared import PreparedDataset
from equipoise.data.format.splits import splits_of
from equipoise.report.charts import samples as charts
from equipoise.report.pages.page import Drawing, Fold, Notice, Page, Section, Sheet, Specimen
from equipoise.report.pictures import MOMENTS, evenly, picture
from equipoise.report.text import prepared
from equipoise.report.text.wording import counted, listed

SHOWN: Final = 6
"""Samples of each modality, of as many classes."""
CLASSES: Final = 12
"""Classes up to which their table is shown at once; a longer one opens on demand."""
FEATURES, BARS, TOKENS = 6, 64, 64
"""Features of a sequence and of a vector, and tokens of a text, that are shown."""
READING: Final = {
    "flow": "The hue is the direction of motion (red to the right, green-yellow downward, cyan to the left), "
    "the brightness its speed; black does not move.",
    "spectrogram": "Low frequencies are at the bottom, loud ones are bright.",
}
Chosen = Sequence[tuple[int, str]]


def preview_page(dataset: PreparedDataset) -> Page:
    """Return the page. Its samples, lengths and values are those of the training split.

    Raises:
        DataError: the dataset cannot be split.
        MissingExtraError: pillow, which makes the pictures, is not installed.
    """
    splits = splits_of(dataset)
    chosen = _chosen(dataset, splits.train)
    classes = prepared.samples(dataset, splits)
    at_once = len(dataset.classes) <= CLASSES
    record = dataset.preparation
    lost, notes = record.get("lost", ()), record.get("notes", ())
    kind = "labels" if dataset.task == "multilabel" else "classes"
    target = f"{len(dataset.classes)} {kind}" if dataset.classes else "a numeric target"
    missing = [Notice(f"{counted(len(lost), 'sample')} of the source could not be read and are not here.")]
    return Page(
        kind="preview",
        title=dataset.name,
        facts=[counted(len(dataset), "sample"), target],
        notices=missing if lost else [],
        tables=[prepared.modalities(dataset, splits.train), *([classes] if at_once else [])],
        sections=[_section(dataset, name, chosen, splits.train) for name in dataset.modalities],
        folds=[
            *([] if at_once else [Fold("Samples of each class", tables=[classes])]),
            *([Fold("Notes of the preparation", notes)] if notes else []),
        ],
    )


def _chosen(dataset: PreparedDataset, train: NDArray[np.int64]) -> Chosen:
    """Return rows of the training split with their labels, of as many classes as possible.

    Of numeric targets they are evenly spaced by value.
    """
    target = dataset.target[train]
    if dataset.task == "classification":
        present = np.unique(target)
        of_class = [train[target == c] for c in present[evenly(len(present), SHOWN)]]
        each = SHOWN // len(of_class)
        rows = []
        for place, own in enumerate(of_class):
            # Not the first of each class: neighbours in a list are often of one person or recording.
            count, shift = min(each, len(own)), place * len(own) // SHOWN
            rows += [int(own[(n * len(own) // count + shift) % len(own)]) for n in range(count)]
        return [(row, dataset.classes[dataset.target[row]]) for row in rows]
    if dataset.task == "regression":
        order = train[np.argsort(target, kind="stable")]
        by_value = order[evenly(len(order), SHOWN)]
        return [(int(row), prepared.short(float(dataset.target[row]))) for row in by_value]
    spread = train[evenly(len(train), SHOWN)]
    labels = [[dataset.classes[c] for c in np.flatnonzero(dataset.target[row])] for row in spread]
    return [(int(row), listed(names) or "no label") for row, names in zip(spread, labels, strict=True)]


def _section(dataset: PreparedDataset, name: str, chosen: Chosen, train: NDArray[np.int64]) -> Section:
    spec, array = dataset.modalities[name], dataset.array(name)
    ids = [str(dataset.ids[row]) for row, _ in chosen]
    if spec.kind in ("image", "video"):
        texts = ["Time runs from left to right."] if spec.kind == "video" else []
        if spec.kind == "video" and spec.shape[0] > MOMENTS:
            texts.append(f"{MOMENTS} of {spec.shape[0]} moments are shown.")
        texts.append(READING.get(spec.content or "", ""))
        pictures = [picture(np.array(array[row]), spec) for row, _ in chosen]
        shown = [
            Specimen(label, i, drawn) for (_, label), i, drawn in zip(chosen, ids, pictures, strict=True)
        ]
        return Section(name, sheet=Sheet(" ".join(filter(None, texts)), shown))
    if spec.kind == "tokens":
        texts = [_tokens(np.array(array[row])) for row, _ in chosen]
        shown = [
            Specimen(label, i, text=text) for (_, label), i, text in zip(chosen, ids, texts, strict=True)
        ]
        return Section(name, sheet=Sheet("The numbers of the tokens; equal words have equal numbers.", shown))
    return Section(name, drawing=_drawing(dataset, name, chosen, prepared.rows_read(dataset, name, train)))


def _tokens(sample: NDArray[Any]) -> str:
    length = int(prepared.lengths(sample[None])[0])
    words = " ".join(map(str, sample[: min(length, TOKENS)].tolist()))
    return f"{words} \N{HORIZONTAL ELLIPSIS} ({length} in all)" if length > TOKENS else words


def _drawing(dataset: PreparedDataset, name: str, chosen: Chosen, read: NDArray[np.int64]) -> Drawing:
    """Return lines of sequences or bars of vectors, normalised as for the network."""
    spec, array = dataset.modalities[name], dataset.array(name)
    normalizer = fit_normalizer(array, spec, read)
    stored = [np.array(array[row]) for row, _ in chosen]
    values = [normalizer(sample[None])[0] for sample in stored]
    labels = [f"{label}: {dataset.ids[row]}" for row, label in chosen]
    count = spec.shape[-1]
    if spec.kind == "sequence":
        ends = [max(1, int(prepared.lengths(sample[None])[0])) for sample in stored]
        cut = [one[:end] for one, end in zip(values, ends, strict=True)]
        features = evenly(count, FEATURES).tolist()
        what = f"feature{'s' if len(features) > 1 else ''} {listed(list(map(str, features)))} of {count}"
        drawing = charts.lines(list(zip(labels, cut, strict=True)), features)
    else:
        what = f"the first {BARS} of {count} features" if count > BARS else counted(count, "feature")
        drawing = charts.bars(list(zip(labels, [one[:BARS] for one in values], strict=True)))
    caption = f"Normalised as for training: {what}."
    return Drawing("Samples", caption, f"Samples of {name}: {what}", drawing)
