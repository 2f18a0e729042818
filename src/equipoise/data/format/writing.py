"""Write the prepared format: checked first, then all of it or nothing."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from equipoise.data.format.columns import Columns, check_columns
from equipoise.data.format.content import chunks, row_hashes
from equipoise.data.format.installing import check_destination, install, staging_beside
from equipoise.data.format.layout import (
    DESCRIPTION_FILE,
    FORMAT,
    FORMAT_VERSION,
    INDEX_FILE,
    PREPARATION_FILE,
    ModalitySpec,
    array_file,
    dataset_fingerprint,
    hash_column,
    listed,
)
from equipoise.data.format.prepared import PreparedDataset, open_dataset
from equipoise.data.format.sources import ArraySource, array_sources, modality_specs
from equipoise.data.prepare.clips import Layout
from equipoise.types import DataError, RunFolderError


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
    contents: Mapping[str, str] | None = None,
    task: str = "classification",
    name: str | None = None,
    licence: str | None = None,
    source: str | None = None,
    preparation: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> PreparedDataset:
    """Write a dataset in the prepared format; from then on its folder is its name everywhere.

    Args:
        folder: where to write; it and its parents are made.
        inputs: modality name to features `[N, ...]`: NumPy arrays, memory maps or torch tensors, read in
            pieces. A sample is a vector [d], a sequence [T, d], an image [C, H, W] or a video [T, C, H, W],
            or, said by `kinds`, tokens [T]: whole numbers of at least 0, of which 0 fills up.
        target: integer or bool labels `[N]`; labels that are not 0..C-1 are renumbered in ascending order.
            With `task="regression"`, numbers `[N]`; with `task="multilabel"`, 0 or 1 for each label `[N, C]`.
        split: `"train"`, `"val"` (or `"valid"`, `"validation"`) or `"test"` for each sample; without it
            splits are drawn when the data are used.
        group: what a split must not tear apart (speaker, subject, video), a value for each sample.
        ids: unique names of the samples; by default their row numbers.
        classes: name of each distinct label in ascending order, or of each column of a table of labels; by
            default the labels, or the columns' numbers.
        kinds: modality to `"vector"`, `"tokens"`, `"sequence"`, `"image"` or `"video"`, to be checked against
            the array.
        normalize: modality to `"standard"` (the default: statistics of the train split, taken when the data
            are used) or `"none"`; one text for all modalities. Tokens are never normalised.
        contents: modality to `"frames"`, `"spectrogram"` or `"flow"`, where that is what an image or video
            is; without it the modality is not augmented.
        task: `"classification"`, `"multilabel"` or `"regression"`.
        name: what to call the dataset; by default the folder's name.
        licence: terms of use.
        source: where the data come from.
        preparation: how the dataset was made, as plain values, kept beside it.
        overwrite: replace a prepared dataset that is there already (nothing else is ever replaced).

    Returns:
        The dataset, opened.

    Raises:
        DataError: anything about the data that is not as described above; NaN or infinite features.
        RunFolderError: the folder is taken or cannot be written. After any error nothing new is left on disk,
            and what was there before is intact.
    """
    sources = array_sources(inputs)
    lengths = {f"modality {name!r}": source.shape[0] for name, source in sources.items()}
    columns = check_columns(lengths, target, split, group, ids, classes, task)
    specs = modality_specs(sources, kinds, normalize, contents)
    path = Path(folder).expanduser().resolve()
    texts = {"name": name or path.name, "licence": licence, "source": source}
    try:
        check_destination(path, overwrite)
        with staging_beside(path) as staging:
            hashes = {
                name: _write_array(staging / spec.file, spec, sources[name], columns.ids)
                for name, spec in specs.items()
            }
            _describe(staging, specs, columns, hashes, texts, preparation)
            open_dataset(staging)  # what cannot be read back must not replace anything
            check_destination(path, overwrite)
            install(staging, path)
    except OSError as error:
        raise RunFolderError(
            f"cannot write {path} ({error}); choose a folder that can be written."
        ) from error
    return open_dataset(path)


def finish_dataset(
    staging: Path,
    folder: str | os.PathLike[str],
    *,
    layouts: Mapping[str, Layout],
    hashes: Mapping[str, NDArray[np.str_]],
    target: Any,
    split: Any = None,
    group: Any = None,
    ids: Any = None,
    classes: Sequence[str] | None = None,
    task: str = "classification",
    name: str,
    licence: str | None = None,
    source: str | None = None,
    preparation: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> PreparedDataset:
    """Turn a folder that holds the arrays of a dataset, and nothing else, into the dataset in its place.

    Args:
        staging: holds `array_file(number, modality)` for each modality; on the disk of `folder`. It is moved
            once everything is checked, and stays where it is, with its arrays, after an error.
        folder: where the dataset goes.
        layouts: modality to what its array holds.
        hashes: modality to the content hash of each row `[N]`.
        target: see `write_dataset`, as for all that follow.
        split: of each sample.
        group: of each sample.
        ids: of the samples.
        classes: class names.
        task: `"classification"`, `"multilabel"` or `"regression"`.
        name: what to call the dataset.
        licence: terms of use.
        source: where the data come from.
        preparation: how the dataset was made.
        overwrite: replace a prepared dataset that is there already.

    Raises:
        DataError: a column is not as `write_dataset` asks for, or an array is not as its layout says.
        RunFolderError: the folder is taken or cannot be written.
    """
    columns = check_columns(
        {f"modality {m!r}": len(rows) for m, rows in hashes.items()}, target, split, group, ids, classes, task
    )
    specs = {
        modality: ModalitySpec(
            name=modality,
            shape=layout.shape,
            dtype=layout.dtype,
            kind=layout.kind,
            normalize="none" if layout.kind == "tokens" else layout.normalize,
            file=array_file(number, modality),
            content=layout.content,
        )
        for number, (modality, layout) in enumerate(layouts.items())
    }
    path = Path(folder).expanduser().resolve()
    texts = {"name": name, "licence": licence, "source": source}
    try:
        check_destination(path, overwrite)
        _describe(staging, specs, columns, dict(hashes), texts, preparation)
        open_dataset(staging)
        path.parent.mkdir(parents=True, exist_ok=True)
        install(staging, path)
    except OSError as error:
        raise RunFolderError(
            f"cannot write {path} ({error}); choose a folder that can be written."
        ) from error
    return open_dataset(path)


def _describe(
    folder: Path,
    specs: Mapping[str, ModalitySpec],
    columns: Columns,
    hashes: Mapping[str, NDArray[np.str_]],
    texts: Mapping[str, str | None],
    preparation: Mapping[str, Any] | None,
) -> None:
    """Write everything but the arrays."""
    indexed = columns.indexed()
    table = {name: "" if column is None else _column(column) for name, column in indexed.items()}
    table |= {hash_column(spec): hashes[name] for name, spec in specs.items()}
    # File names that are no valid Unicode reach Python as lone surrogates; they are allowed as ids.
    with (folder / INDEX_FILE).open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        pd.DataFrame(table).to_csv(file, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    if preparation is not None:
        _write_json(folder / PREPARATION_FILE, preparation)
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **texts,
        **({} if columns.task == "classification" else {"task": columns.task}),
        "n": len(columns.ids),
        "classes": list(columns.classes),
        "modalities": [spec.to_dict() for spec in specs.values()],
        "has_split": columns.split is not None,
        "has_group": columns.group is not None,
        "fingerprint": dataset_fingerprint(specs, columns.classes, indexed, hashes),
    }
    _write_json(folder / DESCRIPTION_FILE, description)


def _column(values: NDArray[Any]) -> Any:
    """Return what stands in the index: a table of labels as one text of 0 and 1 a sample."""
    return values if values.ndim == 1 else ["".join(map(str, row)) for row in values.tolist()]


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


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
