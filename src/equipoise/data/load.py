"""Load a dataset by name or path; named datasets are built once and cached."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from equipoise.cache import CACHE_VARIABLE, cache_folder
from equipoise.data.datasets import DATASETS, Dataset
from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.format.folder import FORMAT_VERSION, slug
from equipoise.data.format.prepared import PreparedDataset, open_dataset
from equipoise.files.limits import check_machine
from equipoise.files.untrusted import first_line
from equipoise.types import DataError, RunFolderError, UnknownNameError


def load_dataset(name_or_path: str | os.PathLike[str] | PreparedDataset) -> PreparedDataset:
    """Open a dataset by name or by the folder it was written to.

    Args:
        name_or_path: a registered name (built once into the user's cache folder, or into that of the
            environment variable `EQUIPOISE_CACHE`), the folder of a prepared dataset, or an open dataset,
            which is returned unchanged. A registered name takes precedence over a folder of that name; write
            `./name` for the folder.

    Raises:
        UnknownNameError: it is neither a registered name nor a path.
        DataError: the path does not exist or holds no prepared dataset, or the cache is damaged.
        MissingExtraError: the named dataset needs an extra that is not installed.
        RunFolderError: the cache cannot be written.
    """
    if isinstance(name_or_path, PreparedDataset):
        return name_or_path
    if isinstance(name_or_path, os.PathLike):
        return open_dataset(name_or_path)
    if not isinstance(name_or_path, str):
        raise UnknownNameError("dataset", repr(name_or_path), DATASETS)
    if name_or_path in DATASETS:
        dataset = DATASETS[name_or_path]()
        return dataset.prepared() if isinstance(dataset, SourceDataset) else _cached(dataset)
    if _is_path(name_or_path):
        return open_dataset(name_or_path)
    found = "neither a folder nor a dataset of that name exists; "
    raise UnknownNameError("dataset", name_or_path, DATASETS, found)


def _is_path(text: str) -> bool:
    return bool(text) and (
        text.startswith(("~", ".")) or "/" in text or os.sep in text or os.path.exists(text)  # noqa: PTH110  Path raises for a long name
    )


def _cached(dataset: Dataset) -> PreparedDataset:
    key = f"{slug(dataset.name)}-{slug(dataset.source_version())}-v{FORMAT_VERSION}"
    folder = cache_folder() / "datasets" / key
    if not folder.exists():
        try:
            _build(dataset, folder)
        except (OSError, RunFolderError) as error:
            check_machine(error)
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            reason = getattr(cause, "strerror", None) or first_line(cause)
            raise RunFolderError(
                f"cannot write the cache {folder.parent} ({reason}); name another folder in {CACHE_VARIABLE}."
            ) from error
    try:
        return open_dataset(folder)
    except DataError as error:
        raise DataError(f"{error} This is a cached copy: delete {folder} to build it again.") from error


def _build(dataset: Dataset, folder: Path) -> None:
    """Build next to the final folder and rename; of two concurrent processes, the first one wins."""
    staging = folder.parent / f".building-{uuid.uuid4().hex}"
    try:
        dataset.build(staging)
        staging.rename(folder)
    except OSError:
        # The rename fails if another process was faster.
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
