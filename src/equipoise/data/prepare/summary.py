"""Counts and losses of a preparation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.data.format.prepared import PreparedDataset
from equipoise.data.prepare.clips import Lost
from equipoise.data.prepare.media.files import REASONS
from equipoise.types import DataError

SHOWN = 3
"""Number of lost samples that an error message names."""


class LostSamplesError(DataError):
    """More samples are lost than allowed; the message names the first, `lost` holds all of them."""

    def __init__(self, message: str, lost: Sequence[Lost]) -> None:
        super().__init__(message)
        self.lost = tuple(lost)


@dataclass(frozen=True)
class Summary:
    """Counts and losses of a finished preparation.

    Attributes:
        counts: class (or `"all"` if the target is numeric) to split (or `"all"`) to number of samples.
        lost: the samples that are not in the dataset, and why.
        notes: see `Preparation`.
        size: bytes of the arrays.
        read: samples read by this call; earlier calls have read the others.
        seconds: duration of this call.
    """

    counts: dict[str, dict[str, int]]
    lost: tuple[Lost, ...]
    notes: tuple[str, ...]
    size: int
    read: int
    seconds: float

    @property
    def total(self) -> int:
        """Samples in the dataset."""
        return sum(sum(row.values()) for row in self.counts.values())


def count_samples(dataset: PreparedDataset) -> dict[str, dict[str, int]]:
    """Count samples by class and split."""
    splits = ["all"] * len(dataset) if dataset.split is None else dataset.split.tolist()
    labels = ["all"] * len(dataset)
    if dataset.classes:
        labels = [dataset.classes[label] for label in dataset.target.tolist()]
    found = Counter(zip(labels, splits, strict=True))
    columns = [name for name in ("train", "val", "test", "all") if name in splits]
    return {row: {c: found[row, c] for c in columns} for row in dataset.classes or ("all",)}


def losses_in_words(lost: Sequence[Lost]) -> str:
    """Count the lost samples by reason, and add the messages of the first ones."""
    counts = Counter(one.reason for one in lost)
    reasons = ", ".join(f"{count} {REASONS[reason]}" for reason, count in counts.most_common())
    first = " ".join(f"({number}) {one.message}" for number, one in enumerate(lost[:SHOWN], start=1))
    return f"{reasons}. The first: {first}"
