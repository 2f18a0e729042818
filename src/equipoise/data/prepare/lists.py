"""Read, check and compare published lists of names, labels and splits."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np

from equipoise.data.format.content import digest
from equipoise.data.format.folder import SPLIT_NAMES, check_file, listed
from equipoise.data.prepare.clips import Clip
from equipoise.data.prepare.media.files import check_media
from equipoise.files.untrusted import parsing, read_text
from equipoise.randomness import derive_seed
from equipoise.types import DataError, UsageError, check_known

_SPLIT_IN_NAME: Final = re.compile(r"(?<![a-z])(train|val|test)")
FRACTIONS: Final = {"test": 0.2, "val": 0.1}
"""Parts of the groups that `draw_groups` puts into test and validation; the rest is for training."""


@dataclass(frozen=True)
class NameList:
    """A published list.

    Attributes:
        path: of the file.
        rows: fields of each line, without header and empty lines.
        split: the split that it lists, or None.
    """

    path: Path
    rows: tuple[tuple[str, ...], ...]
    split: str | None = None

    @property
    def names(self) -> list[str]:
        """The first field of each row."""
        return [row[0] for row in self.rows]

    def describe(self) -> dict[str, Any]:
        """Return the entry of the list in the record of a preparation.

        The fingerprint is independent of header, line endings and byte-order mark.
        """
        kept = {"file": self.path.name, "rows": len(self.rows), "fingerprint": digest(self.rows)}
        return kept | ({} if self.split is None else {"split": self.split})


def read_list(
    path: Path,
    columns: Sequence[str],
    *,
    separator: str = ",",
    header: Sequence[str] = (),
    split: str | None = None,
) -> NameList:
    """Read a text file with one sample per line, whose fields have the names `columns`.

    With a comma as separator, fields may be quoted as in CSV. A first line equal to `header` (in lower case)
    is skipped. `split` is the split that it lists.

    Raises:
        PathError: there is no such file.
        MediaError: it is empty or a Git LFS pointer.
        DataError: it is not a text, or a line has too few or too many fields.
    """
    check_file(path, f"a list with lines {separator.join(columns)!r}")
    check_media(path)
    with parsing(lambda found: DataError(f"{path} is no list ({found}); give the list itself.")):
        return _parsed(path, read_text(path, "utf-8-sig"), columns, separator, header, split)


def _parsed(
    path: Path, text: str, columns: Sequence[str], separator: str, header: Sequence[str], split: str | None
) -> NameList:
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
    """Return the split in the name of a list: `my_train.csv`, `valSet.txt`, `testlist01.txt`.

    Raises:
        UsageError: the name contains none of the words train, val and test, or several.
    """
    found = set(_SPLIT_IN_NAME.findall(path.name.lower()))
    if len(found) != 1:
        words = f"both {' and '.join(sorted(found))}" if found else "none of train, val and test"
        raise UsageError(f"the name of the list {path} contains {words}; rename it so that it contains one.")
    return str(found.pop())


def paths_of(names: Sequence[str]) -> tuple[Path, ...]:
    """Return the paths of lists, or raise UsageError if two of them are the same file."""
    paths = tuple(Path(name).expanduser() for name in names)
    twice = [str(path) for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise UsageError(f"{listed(twice)} is given more than once; give each list once.")
    return paths


def check_once(lists: Sequence[NameList], name_of: Callable[[tuple[str, ...]], str] = itemgetter(0)) -> None:
    """Raise DataError if a name, by default the first field, is twice in a list or in two lists."""
    named = [(one, [name_of(row) for row in one.rows]) for one in lists]
    for one, names in named:
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise DataError(f"{one.path} lists {listed(twice)} more than once; keep one line of each.")
    for (one, names), (other, others) in combinations(named, 2):
        both = sorted(set(names) & set(others))
        if both:
            raise DataError(
                f"{len(both)} samples ({listed(both)}) are in both {one.path} and {other.path}; give lists "
                "without common samples, for instance omit a list that contains the other."
            )


def groups_by_split(clips: Iterable[Clip]) -> dict[str, set[str]]:
    """Return the groups (actors, videos) of the clips of each split, in the order train, val, test."""
    groups: dict[str, set[str]] = {}
    for clip in clips:
        groups.setdefault(str(clip.split), set()).add(str(clip.group))
    return {split: groups[split] for split in SPLIT_NAMES if split in groups}


def sharing(clips: Iterable[Clip], what: str, remedy: str) -> tuple[dict[str, int], list[str]]:
    """Return how many groups two splits share, by `"train and test"` (and so on), and notes about them.

    `what` names the groups in the plural, as `"actors"`; `remedy` is the end of the sentence.
    """
    sets, counts, notes = groups_by_split(clips), {}, []
    for one, other in combinations(sets, 2):
        shared = sorted(sets[one] & sets[other])
        counts[f"{one} and {other}"] = len(shared)
        if shared:
            notes.append(
                f"{one} and {other} share {len(shared)} {what} ({listed(shared)}): these splits are refused "
                f"without --allow-leaks, and results on them are too good; {remedy}."
            )
    return counts, notes


def chosen_classes(wanted: Sequence[str], known: Iterable[str], dataset: str) -> tuple[str, ...]:
    """Return the wanted classes, or all if none is given, in the order of `known`.

    Raises:
        UnknownNameError: a class does not exist.
        UsageError: there is only one.
    """
    known = tuple(known)
    check_known(f"class of {dataset}", wanted, known)
    kept = tuple(name for name in known if name in wanted or not wanted)
    if len(kept) < 2:
        raise UsageError(f"there is only one class ({listed(kept)}); expected at least two.")
    return kept


def check_classes(classes: Sequence[str], labels: Iterable[str], where: str) -> None:
    """Raise DataError if a class has no sample in `where`, the source in words."""
    empty = sorted(set(classes) - set(labels))
    if empty:
        what = "the class" if len(empty) == 1 else "the classes"
        raise DataError(
            f"{what} {listed(empty)} {'has' if len(empty) == 1 else 'have'} no sample in {where}; remove "
            "empty classes, or give a list that contains them."
        )


def check_splits(classes: Sequence[str], labels: Iterable[tuple[str, str]], where: Mapping[str, str]) -> None:
    """Raise DataError if a class has no sample in a split; training and evaluation require one.

    `labels` are the split and class of each sample; `where` gives the source of each split in words.
    """
    pairs = set(labels)
    for split in sorted({split for split, _ in pairs}):
        check_classes(classes, [label for of, label in pairs if of == split], where[split])


def draw_groups(
    groups: Iterable[str], seed: int, purpose: str, stratum: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Draw a split for each group: 20 % for test, 10 % for validation, the rest for training.

    The draw depends only on names, seed and purpose, and not on missing clips. It is balanced by the
    `stratum` of each group, such as the sex of an actor.

    Raises:
        DataError: there are fewer than three groups.
    """
    names = sorted(set(groups))
    if len(names) < 3:
        raise DataError(
            f"there are {len(names)} groups ({listed(names)}); train, validation and test need at least "
            "three: prepare more of the data, or give your own lists."
        )
    strata = {name: "" if stratum is None else stratum.get(name, "") for name in names}
    places: list[tuple[float, str, str]] = []
    for value in sorted(set(strata.values())):
        members = [name for name in names if strata[name] == value]
        order = np.random.default_rng(derive_seed(seed, purpose, value)).permutation(len(members))
        # Strata are interleaved by rank, so that each range of the order has all strata in proportion.
        places += [
            ((rank + 0.5) / len(members), value, members[place]) for rank, place in enumerate(order.tolist())
        ]
    ordered = [name for _, _, name in sorted(places)]
    test, val = (max(1, round(FRACTIONS[split] * len(names))) for split in ("test", "val"))
    parts = dict.fromkeys(ordered[:test], "test") | dict.fromkeys(ordered[test : test + val], "val")
    return {name: parts.get(name, "train") for name in names}
