"""Write the prepared format: checked first, then all of it or nothing."""

from __future__ import annotations

import csv
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from equipoise.data.columns import (
    check_ids,
    check_lengths,
    check_splits,
    encode_labels,
    integer_labels,
    text_column,
)
from equipoise.data.content import chunks, row_hashes
from equipoise.data.format import (
    DESCRIPTION_FILE,
    FORMAT,
    FORMAT_VERSION,
    INDEX_FILE,
    ModalitySpec,
    dataset_fingerprint,
    hash_column,
    listed,
    read_description,
)
from equipoise.data.prepared import PreparedDataset, open_dataset
from equipoise.data.sources import ArraySource, array_sources, modality_specs
from equipoise.types import DataError, RunFolderError


@dataclass(frozen=True)
class _Draft:
    """Checked content of a dataset that is not yet on disk."""

    sources: dict[str, ArraySource]
    specs: dict[str, ModalitySpec]
    classes: tuple[str, ...]
    ids: NDArray[np.str_]
    target: NDArray[np.int64]
    split: NDArray[np.str_] | None
    group: NDArray[np.str_] | None

    @property
    def columns(self) -> dict[str, NDArray[Any] | None]:
        """What stands in the index beside the content hashes."""
        return {"id": self.ids, "target": self.target, "split": self.split, "group": self.group}


def write_dataset(
    folder: str | os.PathLike[str],
    inputs: Mapping[str, Any],
    target: Any,
    split: Any = None,
    group: Any = None,
    ids: Any = None,
    *,
    classes: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    normalize: Mapping[str, str] | str | None = None,
    name: str | None = None,
    licence: str | None = None,
    source: str | None = None,
    overwrite: bool = False,
) -> PreparedDataset:
    """Write a dataset in the prepared format; from then on its folder is its name everywhere.

    Args:
        folder: where to write; it and its parents are made.
        inputs: modality name to features `[N, ...]`: NumPy arrays, memory maps or torch tensors, read in
            pieces. A sample is a vector [d], a sequence [T, d], an image [C, H, W] or a video [T, C, H, W].
        target: integer or bool labels `[N]`; labels that are not 0..C-1 are renumbered in ascending order.
        split: `"train"`, `"val"` (or `"valid"`, `"validation"`) or `"test"` for each sample; without it
            splits are drawn when the data are used.
        group: what a split must not tear apart (speaker, subject, video), a value for each sample.
        ids: unique names of the samples; by default their row numbers.
        classes: name of each distinct label in ascending order; by default the labels.
        kinds: modality to `"vector"`, `"sequence"`, `"image"` or `"video"`, to be checked against the array.
        normalize: modality to `"standard"` (the default: statistics of the train split, taken when the data
            are used) or `"none"`; one text for all modalities.
        name: what to call the dataset; by default the folder's name.
        licence: terms of use.
        source: where the data come from.
        overwrite: replace a prepared dataset that is there already (nothing else is ever replaced).

    Returns:
        The dataset, opened.

    Raises:
        DataError: anything about the data that is not as described above; NaN or infinite features.
        RunFolderError: the folder is taken or cannot be written. After any error nothing new is left on disk,
            and what was there before is intact.
    """
    draft = _draft(inputs, target, split, group, ids, classes, kinds, normalize)
    path = Path(folder).expanduser().resolve()
    texts = {"name": name or path.name, "licence": licence, "source": source}
    try:
        _check_destination(path, overwrite)
        with _staging(path) as staging:
            _write_files(staging, draft, texts)
            open_dataset(staging)  # what cannot be read back must not replace anything
            _check_destination(path, overwrite)
            _install(staging, path)
    except OSError as error:
        raise RunFolderError(
            f"cannot write {path} ({error}); choose a folder that can be written."
        ) from error
    return open_dataset(path)


def _draft(
    inputs: Mapping[str, Any],
    target: Any,
    split: Any,
    group: Any,
    ids: Any,
    classes: Sequence[str] | None,
    kinds: Mapping[str, str] | None,
    normalize: Mapping[str, str] | str | None,
) -> _Draft:
    sources = array_sources(inputs)
    labels = integer_labels(target)
    lengths = {f"modality {name!r}": source.shape[0] for name, source in sources.items()}
    count = check_lengths({**lengths, "the target": len(labels)})
    encoded, names = encode_labels(labels, classes)
    return _Draft(
        sources=sources,
        specs=modality_specs(sources, kinds, normalize),
        classes=names,
        ids=check_ids(ids, count),
        target=encoded,
        split=None if split is None else check_splits(split, count),
        group=None if group is None else text_column("group", group, count),
    )


def _check_destination(path: Path, overwrite: bool) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise RunFolderError(f"{path} is a file; choose a folder that does not exist yet.")
    present = {entry.name for entry in path.iterdir()}
    if not present:
        return
    if not overwrite:
        raise RunFolderError(
            f"{path} is not empty; choose another folder, or pass overwrite=True to replace a dataset."
        )
    try:
        described = read_description(path)
        own = {DESCRIPTION_FILE, INDEX_FILE, *(item["file"] for item in described["modalities"])}
    except (DataError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{path} is not empty and holds no dataset that overwrite=True may replace ({error}); "
            "choose another folder, or remove it yourself."
        ) from error
    if present - own:
        raise RunFolderError(
            f"{path} holds more than a dataset ({listed(sorted(present - own))}), which overwrite=True "
            "would delete; move that away, or choose another folder."
        )


@contextmanager
def _staging(path: Path) -> Iterator[Path]:
    """Make a folder beside `path` to write into; after an error remove it and the parents made for it."""
    made = [parent for parent in path.parents if not parent.exists()]
    staging = path.parent / f".equipoise-{uuid.uuid4().hex}.part"
    try:
        staging.mkdir(parents=True)
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        raise


def _install(staging: Path, path: Path) -> None:
    if not path.exists():
        staging.rename(path)
        return
    # A rename cannot replace a folder that is not empty: the old dataset steps aside, and back on failure.
    aside = staging.with_suffix(".old")
    path.rename(aside)
    try:
        staging.rename(path)
    except BaseException:
        aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _write_files(folder: Path, draft: _Draft, texts: Mapping[str, str | None]) -> None:
    hashes = {
        name: _write_array(folder / spec.file, spec, draft.sources[name], draft.ids)
        for name, spec in draft.specs.items()
    }
    columns = {name: "" if column is None else column for name, column in draft.columns.items()}
    columns |= {hash_column(spec): hashes[name] for name, spec in draft.specs.items()}
    # File names that are no valid Unicode reach Python as lone surrogates; they are allowed as ids.
    with (folder / INDEX_FILE).open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        pd.DataFrame(columns).to_csv(file, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **texts,
        "n": len(draft.ids),
        "classes": list(draft.classes),
        "modalities": [asdict(spec) for spec in draft.specs.values()],
        "has_split": draft.split is not None,
        "has_group": draft.group is not None,
        "fingerprint": dataset_fingerprint(draft.specs, draft.classes, draft.columns, hashes),
    }
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _write_array(
    file_path: Path, spec: ModalitySpec, source: ArraySource, ids: NDArray[np.str_]
) -> NDArray[np.str_]:
    """Write one array piece by piece; return the content hashes of its rows."""
    hashes: list[str] = []
    bad: list[str] = []
    # Plain writes instead of a memory map: a full disk then is an error and not a crash of the process.
    with file_path.open("wb") as file:
        _write_header(file, source)
        for part in chunks(len(ids), spec.row_bytes):
            rows = source.read(part)
            finite = _finite_rows(rows)
            bad += ids[part][~finite].tolist()
            hashes += row_hashes(rows)
            file.write(rows.data)
    if bad:
        raise DataError(
            f"modality {spec.name!r} has NaN or infinite values, or values too large for float32, in "
            f"{len(bad)} of {len(ids)} samples ({listed(bad)}); fill or remove them before writing."
        )
    return np.array(hashes, dtype=np.str_)


def _write_header(file: BinaryIO, source: ArraySource) -> None:
    np.lib.format.write_array_header_1_0(
        file, {"descr": source.dtype.str, "fortran_order": False, "shape": source.shape}
    )


def _finite_rows(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which rows of `[B, ...]` stay finite as float32, the type that is served in the end."""
    if rows.dtype.kind != "f":
        return np.ones(len(rows), dtype=np.bool_)
    with np.errstate(over="ignore"):
        finite = np.isfinite(rows.astype(np.float32, copy=False))
    whole: NDArray[np.bool_] = np.all(finite.reshape(len(rows), -1), axis=1)
    return whole
