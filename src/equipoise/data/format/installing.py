"""A folder that is put in its place as a whole, or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from equipoise.data.format.layout import (
    DESCRIPTION_FILE,
    INDEX_FILE,
    PREPARATION_FILE,
    listed,
    read_description,
)
from equipoise.types import DataError, RunFolderError


def check_destination(path: Path, overwrite: bool) -> None:
    """Refuse a folder that holds anything but a dataset that may be replaced.

    Raises:
        RunFolderError: it says what is in the way.
    """
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
        own = {
            DESCRIPTION_FILE,
            INDEX_FILE,
            PREPARATION_FILE,
            *(item["file"] for item in described["modalities"]),
        }
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
def staging_beside(path: Path) -> Iterator[Path]:
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


def install(staging: Path, path: Path) -> None:
    """Move a finished folder to its place; what was there before stays until then."""
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
