"""Write the prepared format: check everything first, then write all or nothing."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from equipoise.cache import DESCRIPTION_FILE
from equipoise.data.format.columns import Columns, check_columns
from equipoise.data.format.content import chunks, row_hashes, write_npy_header
from equipoise.data.format.folder import (
    FORMAT,
    FORMAT_VERSION,
    INDEX_FILE,
    PREPARATION_FILE,
    check_destination,
    install,
    listed,
    staging_beside,
    write_errors,
)
from equipoise.data.format.modality import ArraySource, Layout, ModalitySpec, array_sources, modality_specs
from equipoise.data.format.prepared import PreparedDataset, dataset_fingerprint, open_dataset
from equipoise.files.csv_cells import csv_text
from equipoise.types import DataError


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
    noise: Mapping[str, float] | None = None,
    task: str = "classification",
    name: str | None = None,
    licence: str | None = None,
    source: str | None = None,
    preparation: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> PreparedDataset:
    """Write a dataset in the prepared format. Afterwards its folder can be used wherever data are named.

    Args:
        folder: where to write; the folder and its parents are created.
        inputs: modality name to features `[N, ...]`: NumPy arrays, memory maps or torch tensors, read in
            chunks. A sample is a vector [d], a sequence [T, d], an image [C, H, W] or a video [T, C, H, W],
            or, if `kinds` says so, tokens [T]: whole numbers of at least 0, padded with 0.
        target: integer, bool or text labels `[N]`; the classes are numbered in ascending order. One column
            `[N, 1]` of 0 and 1 is two classes. With `task="regression"`, numbers `[N]`; with
            `task="multilabel"`, 0 or 1 for each label `[N, C]`.
        split: `"train"`, `"val"` (or `"valid"`, `"validation"`) or `"test"` for each sample. Without it,
            splits are drawn when the data are used.
        group: speaker, subject or video of each sample; a group is never divided between splits.
        ids: unique names of the samples; by default their row numbers.
        classes: name of each distinct label in ascending order, or of each column of a label table; by
            default the labels, or the column numbers. Labels that are texts keep their names: `classes` then
            gives their order.
        kinds: modality to `"vector"`, `"tokens"`, `"sequence"`, `"image"` or `"video"`, checked against the
            array.
        normalize: modality to `"standard"` (the default: statistics of the train split, computed when the
            data are used), `"clip"` (a sequence, image or video by its own mean and deviation, for each
            feature or channel) or `"none"`; one value for all modalities is possible. Tokens are never
            normalised.
        contents: modality to `"frames"`, `"spectrogram"` or `"flow"`, for an image or video that may be
            augmented as such. Other modalities are not augmented.
        noise: modality to the level of Gaussian noise, in standard deviations, that is added when samples are
            read: anew in each epoch of training, and always the same outside of it. Such a modality says
            little, and nothing that could be memorised.
        task: `"classification"`, `"multilabel"` or `"regression"`.
        name: of the dataset; by default the folder's name.
        licence: terms of use.
        source: where the data come from.
        preparation: how the dataset was made, as plain values; stored in `preparation.json`.
        overwrite: replace an existing prepared dataset. Nothing else is ever replaced.

    Returns:
        The dataset, opened.

    Raises:
        DataError: the data do not match the description above, or features are NaN or infinite.
        RunFolderError: the folder is in use or cannot be written. After any error no new file remains, and
            existing data are intact.
    """
    sources = array_sources(inputs)
    lengths = {f"modality {name!r}": source.shape[0] for name, source in sources.items()}
    columns = check_columns(lengths, target, split, group, ids, classes, task)
    specs = modality_specs(sources, kinds, normalize, contents, noise)
    path = Path(folder).expanduser().resolve()
    texts = {"name": name or path.name, "licence": licence, "source": source}
    with write_errors(path):
        check_destination(path, overwrite)
        with staging_beside(path) as staging:
            hashes = {
                name: _write_array(staging / spec.file, spec, sources[name], columns.ids)
                for name, spec in specs.items()
            }
            _describe(staging, specs, columns, hashes, texts, preparation)
            return _installed(staging, path, overwrite)


def finish_dataset(
    staging: Path,
    folder: str | os.PathLike[str],
    *,
    layouts: Mapping[str, Layout],
    hashes: Mapping[str, NDArray[np.str_]],
    columns: Mapping[str, Any],
    name: str,
    licence: str | None = None,
    source: str | None = None,
    preparation: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> PreparedDataset:
    """Complete a folder that holds only the arrays of a dataset, and move it to its final place.

    `staging` holds `array_file(number, modality)` for each modality, on the same disk as `folder`. It is
    moved after all checks; after an error it is still there with its arrays. `hashes` are the content hashes
    of the rows `[N]` of each modality, `columns` the arguments `target`, `split`, `group`, `ids`, `classes`
    and `task` of `write_dataset`. For the others, and for the errors, see `write_dataset`.
    """
    checked = check_columns({f"modality {m!r}": len(rows) for m, rows in hashes.items()}, **columns)
    specs = {
        modality: ModalitySpec.of(number, modality, layout)
        for number, (modality, layout) in enumerate(layouts.items())
    }
    path = Path(folder).expanduser().resolve()
    texts = {"name": name, "licence": licence, "source": source}
    with write_errors(path):
        _describe(staging, specs, checked, hashes, texts, preparation)
        path.parent.mkdir(parents=True, exist_ok=True)
        return _installed(staging, path, overwrite)


def _installed(staging: Path, path: Path, overwrite: bool) -> PreparedDataset:
    """Move a complete dataset to `path` and open it."""
    open_dataset(staging)  # a dataset that cannot be read must not replace another
    check_destination(path, overwrite)
    install(staging, path)
    return open_dataset(path)


def _describe(
    folder: Path,
    specs: Mapping[str, ModalitySpec],
    columns: Columns,
    hashes: Mapping[str, NDArray[np.str_]],
    texts: Mapping[str, str | None],
    preparation: Mapping[str, Any] | None,
) -> None:
    """Write everything except the arrays."""
    indexed = columns.indexed()
    table = {name: "" if column is None else _column(column) for name, column in indexed.items()}
    table |= {spec.hash_column: hashes[name] for name, spec in specs.items()}
    # Ids may be file names that are not valid Unicode; Python represents their bytes as lone surrogates.
    with (folder / INDEX_FILE).open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        file.write(csv_text(pd.DataFrame(table), quoting=csv.QUOTE_NONNUMERIC))
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
    """Return a column of the index; a row of a label table becomes one text of 0 and 1."""
    return values if values.ndim == 1 else ["".join(map(str, row)) for row in values.tolist()]


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _write_array(
    file_path: Path, spec: ModalitySpec, source: ArraySource, ids: NDArray[np.str_]
) -> NDArray[np.str_]:
    """Write one array in chunks; return the content hashes of its rows."""
    hashes: list[str] = []
    bad: list[str] = []
    # With a memory map, a full disk would crash the process; a plain write raises an error.
    with file_path.open("wb") as file:
        write_npy_header(file, source.dtype, source.shape)
        for part in chunks(len(ids), spec.row_bytes):
            rows = source.read(part)
            if spec.kind == "tokens" and rows.min(initial=0) < 0:
                raise DataError(
                    f"modality {spec.name!r} holds the token {rows.min()}; expected numbers of at least 0, "
                    "of which 0 is padding."
                )
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


def _finite_rows(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which rows of `[B, ...]` are finite as float32, the type of batches."""
    if rows.dtype.kind != "f":
        return np.ones(len(rows), dtype=np.bool_)
    with np.errstate(over="ignore"):
        finite = np.isfinite(rows.astype(np.float32, copy=False))
    whole: NDArray[np.bool_] = np.all(finite.reshape(len(rows), -1), axis=1)
    return whole
