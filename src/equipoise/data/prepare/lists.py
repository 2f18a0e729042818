"""Published lists of names, labels and splits: read, checked, and compared with each other."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np

from equipoise.data.format.content import digest
from equipoise.data.format.layout import SPLIT_NAMES, listed
from equipoise.data.prepare.media.files import check_media
from equipoise.randomness import derive_seed
from equipoise.types import DataError, UsageError

_SPLIT_IN_NAME: Final = re.compile(r"(?<![a-z])(train|val|test)")
FRACTIONS: Final = {"test": 0.2, "val": 0.1}
"""Part of the groups that `draw_groups` puts into a split; the others are for training."""


@dataclass(frozen=True)
class NameList:
    """A list as somebody has published it.

    Attributes:
        path: of the file.
        rows: fields of each line, without header and empty lines.
        split: what it is a list of, or None.
    """

    path: Path
    rows: tuple[tuple[str, ...], ...]
    split: str | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of the rows: the same for every header, line ending and byte-order mark."""
        return digest(self.rows)

    def describe(self) -> dict[str, Any]:
        """Return what the record of a preparation keeps of the list."""
        kept = {"file": self.path.name, "rows": len(self.rows), "fingerprint": self.fingerprint}
        return kept | ({} if self.split is None else {"split": self.split})


def read_list(
    path: Path,
    columns: Sequence[str],
    *,
    separator: str = ",",
    header: Sequence[str] = (),
    split: str | None = None,
) -> NameList:
    """Read a text file with one sample a line.

    Args:
        path: the file.
        columns: what the fields of a line are, for messages.
        separator: between fields; a comma goes with quotes, as in CSV.
        header: first line, lower case, that is passed over where it is there.
        split: what the list is of.

    Raises:
        MediaError: the file is missing, empty or a Git LFS pointer.
        DataError: it is no text, or a line has too few or too many fields.
    """
    check_media(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text ({error}); give the list itself.") from None
    lines = csv.reader(
        text.splitlines(),
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE,
    )
    rows: list[tuple[str, ...]] = []
    for fields in lines:
        row = tuple(field.strip() for field in fields)
        if not any(row) or (not rows and header and [field.lower() for field in row] == list(header)):
            continue
        if len(row) != len(columns):
            raise DataError(
                f"{path}, line {lines.line_num}, has {len(row)} fields, expected "
                f"{separator.join(columns)!r}; correct the line or give another list."
            )
        rows.append(row)
    if not rows:
        raise DataError(f"{path} lists nothing; expected lines {separator.join(columns)!r}.")
    return NameList(path, tuple(rows), split)


def split_of_name(path: Path) -> str:
    """Tell from its name what a list is of: `my_train.csv`, `valSet.txt`, `testlist01.txt`.

    Raises:
        UsageError: the name holds none of the words train, val and test, or several.
    """
    found = set(_SPLIT_IN_NAME.findall(path.name.lower()))
    if len(found) != 1:
        words = f"both {' and '.join(sorted(found))}" if found else "none of train, val and test"
        raise UsageError(f"the name of the list {path} holds {words}; rename it so that it holds just one.")
    return str(found.pop())


def paths_of(names: Sequence[str]) -> tuple[Path, ...]:
    """Turn options that name lists into paths.

    Raises:
        UsageError: two of them name one file.
    """
    paths = tuple(Path(name).expanduser() for name in names)
    twice = [str(path) for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise UsageError(f"{listed(twice)} is given more than once; give each list once.")
    return paths


def check_once(lists: Iterable[tuple[NameList, Sequence[str]]]) -> None:
    """Check that no name stands twice in a list or in two lists.

    Args:
        lists: each list with the names of its rows, in order.

    Raises:
        DataError: a name does; tells the lists and the first names.
    """
    named = list(lists)
    for one, names in named:
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise DataError(f"{one.path} lists {listed(twice)} more than once; keep one line of each.")
    for (one, names), (other, others) in combinations(named, 2):
        both = sorted(set(names) & set(others))
        if both:
            raise DataError(
                f"{len(both)} samples ({listed(both)}) stand in {one.path} and in {other.path}; give lists "
                "that share nothing, for instance without the one that the other is a part of."
            )


def shared_groups(groups: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Compare splits: `"train and test"` to the groups (actors, videos) that stand in both, sorted.

    Args:
        groups: split to the group of each of its samples.
    """
    sets = {split: set(groups[split]) for split in SPLIT_NAMES if split in groups}
    return {f"{one} and {other}": sorted(sets[one] & sets[other]) for one, other in combinations(sets, 2)}


def sharing_notes(shared: Mapping[str, Sequence[str]], what: str, remedy: str) -> Iterator[str]:
    """Say which splits share groups, and how to go on.

    Args:
        shared: as `shared_groups` returns it.
        what: the groups are, in the plural: `"actors"`.
        remedy: what to do instead, as the end of a sentence.
    """
    for splits, groups in shared.items():
        if groups:
            yield (
                f"{splits} share {len(groups)} {what} ({listed(list(groups))}): these splits are refused "
                f"unless --allow-leaks is given, and results on them are too good; {remedy}."
            )


def check_classes(classes: Sequence[str], labels: Iterable[str], where: str) -> None:
    """Check that every class has a sample.

    Raises:
        DataError: one has none.
    """
    empty = sorted(set(classes) - set(labels))
    if empty:
        what = "the class" if len(empty) == 1 else "the classes"
        raise DataError(
            f"{what} {listed(empty)} {'has' if len(empty) == 1 else 'have'} no sample in {where}; leave "
            "empty classes out, or give a list that holds them."
        )


def check_splits(classes: Sequence[str], labels: Iterable[tuple[str, str]], where: Mapping[str, str]) -> None:
    """Check that every class has a sample in every split, which using the data asks for.

    Args:
        classes: names.
        labels: split and class of each sample.
        where: split to what a message calls its source.

    Raises:
        DataError: a class lacks samples in a split.
    """
    pairs = set(labels)
    for split in sorted({split for split, _ in pairs}):
        check_classes(classes, [label for of, label in pairs if of == split], where[split])


def draw_groups(
    groups: Iterable[str], seed: int, purpose: str, stratum: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Draw a split for each group: 20 % of them for the test, 10 % for validation, the others for training.

    Nothing but the names and the seed decides, so that the draw does not move with clips that are missing.

    Args:
        groups: names, in any order.
        seed: of the draw.
        purpose: of the draw, which makes the random stream its own.
        stratum: group to what the parts are balanced by, such as the sex of an actor.

    Raises:
        DataError: there are fewer than three groups.
    """
    names = sorted(set(groups))
    if len(names) < 3:
        raise DataError(
            f"there are {len(names)} groups ({listed(names)}); train, validation and test need at least "
            "three: prepare more of the data, or give lists of your own."
        )
    strata = {name: "" if stratum is None else stratum.get(name, "") for name in names}
    places: list[tuple[float, str, str]] = []
    for value in sorted(set(strata.values())):
        members = [name for name in names if strata[name] == value]
        order = np.random.default_rng(derive_seed(seed, purpose, value)).permutation(len(members))
        # Strata are interleaved by rank, so that any stretch of the order holds each in proportion.
        places += [
            ((rank + 0.5) / len(members), value, members[place]) for rank, place in enumerate(order.tolist())
        ]
    ordered = [name for _, _, name in sorted(places)]
    test, val = (max(1, round(FRACTIONS[split] * len(names))) for split in ("test", "val"))
    parts = dict.fromkeys(ordered[:test], "test") | dict.fromkeys(ordered[test : test + val], "val")
    return {name: parts.get(name, "train") for name in names}
