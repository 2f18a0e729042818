"""Move a finished folder to its final place, all or nothing."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from equipoise.cache import DESCRIPTION_FILE
from equipoise.data.format.folder import (
    INDEX_FILE,
    PREPARATION_FILE,
    listed,
    read_description,
)
from equipoise.types import DataError, RunFolderError


def check_destination(path: Path, overwrite: bool) -> None:
    """Raise RunFolderError if `path` holds anything except a dataset that may be replaced."""
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
        arrays = {item["file"] for item in read_description(path)["modalities"]}
    except (DataError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{path} is not empty and holds no dataset that overwrite=True may replace ({error}); "
            "choose another folder, or remove it yourself."
        ) from error
    if others := present - {DESCRIPTION_FILE, INDEX_FILE, PREPARATION_FILE} - arrays:
        raise RunFolderError(
            f"{path} holds other files than those of a dataset ({listed(sorted(others))}), which "
            "overwrite=True would delete; move them, or choose another folder."
        )


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raise errors of the file system as a RunFolderError about `path`."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"cannot write {path} ({error}); choose a folder that can be written."
        ) from error


@contextmanager
def staging_beside(path: Path) -> Iterator[Path]:
    """Create a folder next to `path`; after an error remove it and the parents created for it."""
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


def install(staging: Path, path: Path) -> None:
    """Move a finished folder to `path`; an existing dataset there is kept until the move succeeds."""
    if not path.exists():
        staging.rename(path)
        return
    # A rename cannot replace a folder that is not empty: the old dataset is renamed first, and restored on
    # failure.
    aside = staging.with_suffix(".old")
    path.rename(aside)
    try:
        staging.rename(path)
    except BaseException:
        aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)
