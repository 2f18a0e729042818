"""Train, validation and test splits: given by the dataset, or drawn by class and group."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.columns import check_ids, class_labels, text_column
from equipoise.data.format.content import digest, sample_hashes
from equipoise.data.format.folder import SPLIT_NAMES
from equipoise.data.format.label_strata import missing_label, strata_of
from equipoise.data.format.prepared import PreparedDataset
from equipoise.randomness import derive_seed
from equipoise.types import DataError

Rows = NDArray[np.int64]
CARVED = 0.2
"""Part of the train split that becomes validation if a dataset has no validation split."""
_ATTEMPTS = 20
_MOST_FOLDS = 20


@dataclass(frozen=True, eq=False)
class Splits:
    """Rows of a dataset for training, for validation and for the final test.

    Attributes:
        train: row numbers, sorted (int64).
        val: the same.
        test: the same.
        origin: where the splits come from, as a phrase.
        fingerprint: hash of the ids in each split; independent of the seed and of the order of rows.
    """

    train: Rows
    val: Rows
    test: Rows
    origin: str
    fingerprint: str

    def __post_init__(self) -> None:
        for name in SPLIT_NAMES:
            rows = np.sort(np.asarray(getattr(self, name), dtype=np.int64))
            rows.flags.writeable = False
            object.__setattr__(self, name, rows)

    @classmethod
    def of(cls, train: Any, val: Any, test: Any, *, ids: NDArray[np.str_], origin: str) -> Splits:
        """Create splits from row numbers; the fingerprint hashes the `ids` `[N]` of the dataset."""
        named = zip(SPLIT_NAMES, (train, val, test), strict=True)
        members = {name: sorted(ids[np.asarray(rows, dtype=np.int64)].tolist()) for name, rows in named}
        return cls(train, val, test, origin, fingerprint=digest(members))

    def check_rows(self, count: int) -> None:
        """Raise DataError if a split names a row beyond the `count` rows of a dataset."""
        for name, rows in self.items():
            if len(rows) and not 0 <= rows[0] <= rows[-1] < count:
                raise DataError(
                    f"split {name!r} names rows {rows[0]} to {rows[-1]}, the dataset has {count}; use splits "
                    "that were drawn for this dataset."
                )

    def items(self) -> Iterator[tuple[str, Rows]]:
        """Yield the name and the rows of each split."""
        for name in SPLIT_NAMES:
            yield name, getattr(self, name)


def draw_splits(
    target: Any,
    group: Any = None,
    *,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    duplicates: Any = None,
    ids: Any = None,
    classes: Sequence[str] | None = None,
) -> Splits:
    """Draw three splits, stratified by class.

    Args:
        target: integer or text labels `[N]`.
        group: speaker, subject or video of each sample `[N]`; a group stays in one split, so that the
            fractions are approximate.
        fractions: of train, validation and test; they sum to 1.
        seed: of the draw; equal seeds give equal splits.
        duplicates: content hash of each sample `[N]`; samples of equal content stay in one split.
        ids: sample names `[N]` for the fingerprint; by default row numbers.
        classes: class names for messages.

    Raises:
        DataError: fractions are invalid, columns differ in length, a class has too few samples (or groups)
            for three splits, or no draw puts it into all of them.
    """
    _check_fractions(fractions)
    labels = class_labels(target)
    if labels.dtype.kind == "U":
        names, labels = np.unique(labels, return_inverse=True)
        classes = names.tolist()
    labels = labels.astype(np.int64)
    pool = _Pool(labels, _units(len(labels), group, duplicates), group is not None, classes)
    pool.check(np.arange(len(labels)), SPLIT_NAMES)
    val_of_rest = fractions[1] / (fractions[0] + fractions[1])
    for attempt in range(_ATTEMPTS):
        rest, test = pool.divide(
            np.arange(len(labels)), fractions[2], 2, derive_seed(seed, "split", "test", attempt)
        )
        train, val = pool.divide(rest, val_of_rest, 1, derive_seed(seed, "split", "val", attempt))
        missing = pool.missing({"train": train, "val": val, "test": test})
        if missing is None:
            percent = "/".join(f"{100 * part:g}" for part in fractions)
            origin = f"drawn {'by group, ' if group is not None else ''}{percent} %, seed {seed}"
            return Splits.of(train, val, test, ids=check_ids(ids, len(labels)), origin=origin)
    remedy = "add samples of this class, remove it, or give your own splits"
    if group is not None:
        remedy = "give coarser fractions, groups with more even classes, or your own splits"
    raise DataError(f"{missing} after {_ATTEMPTS} draws; {remedy}.")


def splits_of(dataset: PreparedDataset, seed: int = 0) -> Splits:
    """Return the splits given by a dataset; draw what is missing.

    Without `"val"`, a fifth of train becomes validation; without any split, three are drawn. Draws are
    stratified, and keep groups and identical samples together.

    Raises:
        DataError: train or test is missing, a split lacks a class, or there are too few samples.
    """
    contents = sample_hashes(dataset.content_hashes)
    units = _units(len(dataset), dataset.group, contents)
    classified = dataset.task == "classification"
    target = dataset.target if classified else strata_of(dataset.target, units)
    # Stratum 0 belongs to no label.
    classes = (
        dataset.classes if classified else ("of no label", *dataset.classes) if dataset.classes else None
    )
    if dataset.split is None:
        drawn = draw_splits(
            target, dataset.group, seed=seed, duplicates=contents, ids=dataset.ids, classes=classes
        )
        if missing := missing_label(dataset, dict(drawn.items())):
            raise DataError(f"{missing} of dataset {dataset.name!r}; remove this label, or give splits.")
        return drawn
    given = {name: np.flatnonzero(dataset.split == name) for name in SPLIT_NAMES}
    for name in ("train", "test"):
        if not len(given[name]):
            raise DataError(
                f"dataset {dataset.name!r} has fixed splits, but no sample is in {name!r}; write it with "
                "'train' and 'test' (and 'val'), or with split=None to draw all three."
            )
    pool = _Pool(target, units, dataset.group is not None, classes)
    origin = "given by the dataset"
    if not len(given["val"]):
        origin += f"; validation is 1/5 of its train split, seed {seed}"
        given["train"], given["val"] = _carve(pool, given["train"], seed)
    missing = (classified and pool.missing(given)) or missing_label(dataset, given)
    if missing:
        raise DataError(f"{missing} of dataset {dataset.name!r}; write it with every class in every split.")
    return Splits.of(**given, ids=dataset.ids, origin=origin)


@dataclass(frozen=True)
class _Pool:
    """Samples to divide: their labels `[N]`, and the units `[N]` that must not be divided."""

    target: NDArray[Any]
    unit: Rows
    grouped: bool
    classes: Sequence[str] | None

    def name(self, label: Any) -> str:
        # With a numeric target all samples have the label 0.
        if self.classes is None and not self.target.any():
            return "the dataset"
        return f"class {self.classes[int(label)] if self.classes is not None else str(label)!r}"

    def check(self, rows: Rows, parts: Sequence[str]) -> None:
        """Raise DataError if there is no sample, or a class has fewer units than there are parts."""
        if not len(rows):
            raise DataError(f"there are no samples to divide into {', '.join(parts)}.")
        pairs = np.unique(np.stack([self.target[rows], self.unit[rows]]), axis=1)
        labels, counts = np.unique(pairs[0], return_counts=True)
        for label, count in zip(labels, counts, strict=True):
            if count < len(parts):
                what = "groups" if self.grouped else "samples (identical ones count once)"
                raise DataError(
                    f"{self.name(label)} has {count} {what}; dividing into {', '.join(parts)} needs at least "
                    f"{len(parts)}: add samples, remove the class, or give your own splits."
                )

    def divide(self, rows: Rows, fraction: float, keep: int, seed: int) -> tuple[Rows, Rows]:
        """Divide rows into `(rest, taken)`; `keep` units of each class stay in `rest` if possible."""
        choose = _choose_groups if self.grouped else _choose_units
        taken = np.isin(self.unit[rows], choose(self.target[rows], self.unit[rows], fraction, keep, seed))
        return rows[~taken], rows[taken]

    def missing(self, parts: dict[str, Rows]) -> str | None:
        """Return a message about the first class that a part lacks, or None."""
        for part, rows in parts.items():
            absent = np.setdiff1d(self.target, self.target[rows])
            if len(absent):
                return f"{self.name(absent[0])} has no sample in the split {part!r}"
        return None


def _carve(pool: _Pool, train: Rows, seed: int) -> tuple[Rows, Rows]:
    pool.check(train, ("train", "val"))
    for attempt in range(_ATTEMPTS):
        rest, val = pool.divide(train, CARVED, 1, derive_seed(seed, "split", "carve", attempt))
        if pool.missing({"train": rest, "val": val}) is None:
            break
    return rest, val


def _choose_groups(target: NDArray[Any], unit: Rows, fraction: float, keep: int, seed: int) -> Rows:
    """Take whole groups that together hold about `fraction` of every class."""
    largest_class = int(np.unique(target, return_counts=True)[1].max(initial=0))
    # This import takes most of a second, and only drawing by group needs it.
    from sklearn.model_selection import StratifiedGroupKFold

    most = min(_MOST_FOLDS, len(np.unique(unit)), largest_class)
    if most < 2:
        return unit[:0]
    share = Fraction(fraction).limit_denominator(most)
    if share in (0, 1):
        share = Fraction(1, most)
    folds = StratifiedGroupKFold(share.denominator, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # A class may have fewer groups than folds: a draw without it is repeated.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        parts = [unit[held] for _, held in folds.split(target, target, unit)]
    # The splitter always puts the most uneven group into the first fold; a random order of folds avoids a
    # bias.
    order = np.random.default_rng(seed).permutation(len(parts))
    count = max(1, min(share.numerator, share.denominator - keep))
    return np.unique(np.concatenate([parts[fold] for fold in order[:count]]))


def _choose_units(target: NDArray[Any], unit: Rows, fraction: float, keep: int, seed: int) -> Rows:
    """Take `fraction` of each class's units by largest remainder; at least one if enough remain.

    Stratified splitters of scikit-learn may take no unit of a small class.
    """
    units, first = np.unique(unit, return_index=True)
    labels, label = np.unique(target[first], return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = np.bincount(label, minlength=len(labels))
    wanted = fraction * counts
    most = np.maximum(counts - keep, 0)
    take = np.clip(np.maximum(np.floor(wanted), 1).astype(np.int64), 0, most)
    # Shuffle before the stable sort, so that ties do not always favour the first class.
    shuffled = rng.permutation(len(labels))
    for c in shuffled[np.argsort((take - wanted)[shuffled], kind="stable")]:
        if take.sum() < round(fraction * len(units)) and take[c] < most[c]:
            take[c] += 1
    members = [rng.permutation(units[label == c])[: take[c]] for c in range(len(labels))]
    return np.concatenate(members)


def _units(count: int, group: Any, duplicates: Any) -> Rows:
    """Number the connected sets of samples that share a group or identical content."""
    unit: Rows = np.arange(count)
    keys = [
        np.unique(text_column(name, column, count), return_inverse=True)[1]
        for name, column in (("group", group), ("duplicates", duplicates))
        if column is not None
    ]
    while True:
        before = unit
        for key in keys:
            lowest = np.full(key.max(initial=0) + 1, count)
            np.minimum.at(lowest, key, unit)
            unit = lowest[key]
        if np.array_equal(unit, before):
            return unit


def _check_fractions(fractions: Sequence[float]) -> None:
    if len(fractions) != 3 or not all(0 < part < 1 for part in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise DataError(
            f"fractions is {tuple(fractions)}; expected three numbers between 0 and 1 for train, val and "
            "test that sum to 1, for instance (0.6, 0.2, 0.2)."
        )
