"""The leak guard: no sample, group or content may be in two splits."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from equipoise.data.format.content import sample_hashes
from equipoise.data.format.folder import listed
from equipoise.data.format.prepared import PreparedDataset
from equipoise.data.format.splits import Splits
from equipoise.files.csv_cells import csv_text
from equipoise.types import EquipoiseWarning, LeakError

_SHOWN, _EXAMPLES = 10, 3
_KINDS = {
    "id": ("sample {0.value!r}", "ids"),
    "group": ("group {0.value!r}", "groups"),
    "content": ("the same content", "whole contents"),
    "modality content": ("the same content of modality {0.modality!r}", "single-modality contents"),
}
"""Kind of a leak, to the words for one and for several."""
_REMEDY = (
    "correct split=... in write_dataset, give group=... without split to draw leak-free splits, "
    "or allow it if it is intended (allow_leaks=True, --allow-leaks)"
)


@dataclass(frozen=True, slots=True)
class Leak:
    """An id, group or content that is in more than one split.

    Attributes:
        kind: `"id"`, `"group"`, `"content"` (samples identical in all modalities) or `"modality content"`
            (samples identical in one modality only).
        value: the id, the name of the group or the content hash.
        members: `(split, id)` of every sample concerned.
        modality: its name, if the kind is `"modality content"`.
    """

    kind: str
    value: str
    members: tuple[tuple[str, str], ...]
    modality: str | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits concerned, in the order train, val, test."""
        return tuple(dict.fromkeys(split for split, _ in self.members))

    def __str__(self) -> str:
        places = {split: [name for at, name in self.members if at == split] for split in self.splits}
        where = " and ".join(f"{split} ({listed(names)})" for split, names in places.items())
        what, _ = _KINDS[self.kind]
        return f"{what.format(self)} is in {where}"


def find_leaks(dataset: PreparedDataset, splits: Splits) -> list[Leak]:
    """Compare ids, groups and content hashes, and list everything that two splits share.

    Repeated contents of a single modality are not listed if all their values are equal (silence, a black
    image, a missing modality filled with zeros), or if the samples are identical in all modalities and thus
    listed already.

    Raises:
        DataError: splits name rows that the dataset does not have.
    """
    splits.check_rows(len(dataset))
    contents = sample_hashes(dataset.content_hashes)
    rows = np.concatenate([part for _, part in splits.items()])
    table = pd.DataFrame(
        {
            "row": rows,
            "split": np.concatenate([np.full(len(part), name) for name, part in splits.items()]),
            "id": dataset.ids[rows],
            "whole": contents[rows],
        }
    )
    leaks = _shared("id", table, dataset.ids)
    if dataset.group is not None:
        leaks += _shared("group", table, dataset.group)
    leaks += _shared("content", table, contents, differing="row")
    if len(dataset.modalities) > 1:
        for name, hashes in dataset.content_hashes.items():
            array = dataset.array(name)
            for leak in _shared("modality content", table, hashes, differing="whole", modality=name):
                row = int(np.flatnonzero(hashes == leak.value)[0])
                if array[row].min() != array[row].max():
                    leaks.append(leak)
    return leaks


def guard(dataset: PreparedDataset, splits: Splits, allow: bool = False) -> list[Leak]:
    """Raise an error, or warn if `allow` is set, if splits leak.

    Returns all leaks, for the record. Messages name ten; if there are more, the file `NAME.leaks.csv` beside
    the folder of the dataset lists all. A repeat in a single modality only gives a warning: two samples may,
    for example, share a text.

    Raises:
        LeakError: an id, a group or the content of a whole sample is in two splits and `allow` is False.
        DataError: splits name rows that the dataset does not have.
    """
    leaks = find_leaks(dataset, splits)
    grave = [leak for leak in leaks if leak.kind != "modality content"]
    mild = [leak for leak in leaks if leak.kind == "modality content"]
    if grave and not allow:
        raise LeakError(f"{leaks_in_words(dataset, grave, leaks)}: {_REMEDY}.")
    for found, remedy in (
        (grave, "results on this test split are too good; draw new splits"),
        (mild, "if these are copies of one recording, give them one group"),
    ):
        if found:
            warnings.warn(
                f"{leaks_in_words(dataset, found, leaks)}: {remedy}.", EquipoiseWarning, stacklevel=2
            )
    return leaks


def _shared(
    kind: str,
    table: pd.DataFrame,
    keys: NDArray[np.str_],
    *,
    differing: str | None = None,
    modality: str | None = None,
) -> list[Leak]:
    """Find keys in several splits; the column `differing` must vary among the samples of a key."""
    keyed = table.assign(key=keys[table["row"].to_numpy()])
    keyed = keyed[keyed["key"].duplicated(keep=False)]
    grouped = keyed.groupby("key", sort=False)
    several = grouped["split"].transform("nunique") > 1
    if differing is not None:
        several &= grouped[differing].transform("nunique") > 1
    leaks = []
    for key, members in keyed[several].groupby("key", sort=False):
        named = zip(members["split"].tolist(), members["id"].tolist(), strict=True)
        leaks.append(Leak(kind, str(key), tuple(named), modality))
    return leaks


def leaks_in_words(dataset: PreparedDataset, named: list[Leak], leaks: list[Leak]) -> str:
    """Count the leaks `named`, and name up to ten; of more, name three and write all `leaks` to a file."""
    counts = Counter(leak.kind for leak in named)
    total = " and ".join(f"{count} {_KINDS[kind][1]}" for kind, count in counts.items())
    count = len(named) if len(named) <= _SHOWN else _EXAMPLES
    shown = "; ".join(str(leak) for leak in named[:count])
    more = f"; and {len(named) - count} more{_listed_in(dataset, leaks)}" if count < len(named) else ""
    return f"dataset {dataset.name!r}: {total} are in more than one split ({shown}{more})"


def _listed_in(dataset: PreparedDataset, leaks: list[Leak]) -> str:
    """Write a table with a row for each sample of a leak; return words that name the file if written."""
    # Not in the folder of the dataset: overwrite=True deletes no folder with other files.
    path = dataset.path.with_name(f"{dataset.path.name}.leaks.csv")
    columns = ["kind", "modality", "value", "split", "id"]
    rows = [(leak.kind, leak.modality, leak.value, *member) for leak in leaks for member in leak.members]
    try:
        with path.open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
            file.write(csv_text(pd.DataFrame(rows, columns=columns)))
    except OSError:  # a dataset that may only be read
        return ""
    return f", all listed in {path}"
