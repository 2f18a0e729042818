"""The tables of a prepared dataset: its modalities as they are stored, and its samples by class and split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.content import CHUNK_BYTES
from equipoise.data.format.modality import ModalitySpec
from equipoise.data.format.prepared import PreparedDataset
from equipoise.data.format.splits import Splits
from equipoise.decimals import MINUS
from equipoise.report.text.tables import Cell, Table
from equipoise.report.text.wording import TIMES

READ: Final = 256
"""Training samples of a modality that are read at most; of large ones, fewer."""
NORMALISED: Final = {
    "standard": "by the training split",
    "clip": "by its own mean and deviation",
    "none": "not",
}


def rows_read(dataset: PreparedDataset, name: str, train: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return evenly spaced rows of the training split, as many as are read to describe a modality."""
    count = min(len(train), READ, max(1, CHUNK_BYTES // dataset.modalities[name].row_bytes))
    return train[np.linspace(0, len(train) - 1, count).astype(np.int64)]


def lengths(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return the lengths of tokens `[N, T]` or sequences `[N, T, d]`, without the zeros at their ends."""
    steps = np.arange(1, values.shape[1] + 1)
    used = values.reshape(*values.shape[:2], -1) != 0
    longest: NDArray[np.int64] = (used * steps[:, None]).max(axis=(1, 2))
    return longest


def modalities(dataset: PreparedDataset, train: NDArray[np.int64]) -> Table:
    """Return shape, type, lengths, range of values and normalisation of each modality."""
    rows = []
    for name, spec in dataset.modalities.items():
        read = rows_read(dataset, name, train)
        values = dataset.array(name)[read]
        tokens = spec.kind == "tokens"
        rows.append(
            {
                "modality": Cell(name, note=", ".join(filter(None, (spec.kind, spec.content)))),
                "sample": Cell(f" {TIMES} ".join(map(str, spec.shape))),
                "type": Cell(spec.dtype),
                "length": Cell(_lengths(values, spec)),
                "values": Cell(f"{short(float(values.min()))} to {short(float(values.max()))}"),
                "mean": Cell("" if tokens else short(float(values.mean(dtype=np.float64)))),
                "deviation": Cell("" if tokens else short(float(values.std(dtype=np.float64)))),
                "samples read": Cell(f"{len(read):,}", len(read)),
                "normalised": Cell("never" if tokens else NORMALISED[spec.normalize]),
            }
        )
    caption = (
        "The arrays as they are stored. Lengths (smallest, median and largest) count no zeros at the end. "
        "Lengths and values are those of evenly spaced training samples. Normalised, each feature or channel "
        "has the mean 0 and the deviation 1; bytes are divided by 255 first."
    )
    return Table.of(caption, rows, words={"normalised"})


def samples(dataset: PreparedDataset, splits: Splits) -> Table:
    """Return the number of samples of each class, or label, in each split, and their sum."""
    target, rows = dataset.target, []
    for place, label in enumerate(dataset.classes):
        of = target[:, place] == 1 if dataset.task == "multilabel" else target == place
        rows.append((label, [int(of[part].sum()) for _, part in splits.items()]))
    rows.append(("all samples", [len(part) for _, part in splits.items()]))
    names = [name for name, _ in splits.items()]
    cells = [
        {"class": Cell(label)} | {n: Cell(f"{c:,}", c) for n, c in zip(names, counts, strict=True)}
        for label, counts in rows
    ]
    return Table.of(f"Samples by class and split. Splits: {splits.origin}.", cells)


def short(value: float) -> str:
    """Write a number with four digits."""
    return f"{value:.4g}".replace("-", MINUS)


def _lengths(values: NDArray[Any], spec: ModalitySpec) -> str:
    if spec.kind not in ("tokens", "sequence"):
        return str(spec.shape[0]) if spec.kind == "video" else ""
    found = lengths(values)
    parts: Sequence[float] = (found.min(), np.median(found), found.max())
    return ", ".join(f"{part:g}" for part in parts)
