"""The folder of a prepared dataset: file names, the description file, and the move to its final place."""

from __future__ import annotations

import errno
import re
import shutil
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from equipoise.cache import DESCRIPTION_FILE
from equipoise.files.limits import check_machine
from equipoise.files.untrusted import read_json
from equipoise.files.whole import room_for
from equipoise.tasks import TASKS as TASK_KINDS
from equipoise.types import DataError, PathError, RunFolderError

FORMAT = "equipoise-dataset"
FORMAT_VERSION = 1
INDEX_FILE = "index.csv"
PREPARATION_FILE = "preparation.json"
PREVIEW_FILE = "preview.html"
"""How a dataset was made from files, if it was: readers, options, lost samples, versions."""
TASKS = tuple(TASK_KINDS)
SPLIT_NAMES = ("train", "val", "test")


def read_description(path: Path) -> dict[str, Any]:
    """Read `dataset.json` in the folder `path` and check that it describes a dataset of a known version.

    Raises:
        PathError: the folder does not exist or holds no dataset.
        DataError: the file is damaged, or written by a newer version of the format.
    """
    file = path / DESCRIPTION_FILE
    check_folder(path, "the folder of a dataset written by equipoise.write_dataset")
    try:
        check_inside(file)
        described = read_json(
            file, lambda found: DataError(f"{file} cannot be read ({found}); write the dataset again.")
        )
    except FileNotFoundError:
        raise PathError(
            f"{path} is no prepared dataset: it has no {DESCRIPTION_FILE}; create one with "
            "equipoise.write_dataset."
        ) from None
    if described.get("format") != FORMAT:
        raise DataError(f"{file} does not describe a dataset of Equipoise (no format {FORMAT!r}).")
    version = described.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise DataError(
            f"{file} has the format version {version!r}, expected {FORMAT_VERSION}; write it again."
        )
    if version > FORMAT_VERSION:
        raise DataError(
            f"{file} has format version {version}, this Equipoise reads up to {FORMAT_VERSION}; upgrade "
            "equipoise."
        )
    return dict(described)


def check_inside(file: Path) -> None:
    """Raise DataError if a file of a dataset is a link that leaves its folder: it could show any file."""
    if file.is_symlink() and file.resolve().parent != file.parent.resolve():
        raise DataError(
            f"{file} is a link to {file.resolve()}, outside its folder; expected the file itself: copy it "
            "there."
        )


def check_folder(path: Path, expected: str) -> None:
    """Raise PathError unless `path` is a folder; `expected` completes the message."""
    if not path.is_dir():
        raise PathError(f"{path} {'is a file' if path.exists() else 'does not exist'}; expected {expected}.")


def check_file(path: Path, expected: str) -> None:
    """Raise PathError unless `path` is a file; `expected` completes the message."""
    if not path.is_file():
        found = "is a folder" if path.exists() else "does not exist"
        raise PathError(f"{path} {found}; expected {expected}.")


def visible(entries: Iterable[Path]) -> list[Path]:
    """Return the entries of a folder by name, without hidden ones such as the `._` files of macOS."""
    return sorted(entry for entry in entries if not entry.name.startswith("."))


def slug(name: str) -> str:
    """Turn any name into lower-case ASCII letters, digits and hyphens; two names may give one slug."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain)[:40].strip("-") or "unnamed"


def array_file(number: int, modality: str) -> str:
    """Return the array file of a modality; `number` is its position among the modalities."""
    # Two names may have the same slug; the number keeps their files apart.
    return f"{number:02d}_{slug(modality)}.npy"


def listed(names: Sequence[object], limit: int = 3) -> str:
    """Quote the first `limit` names for a message, and count the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(str(name)) for name in names[:limit]) + more


def check_destination(path: Path, overwrite: bool) -> None:
    """Raise PathError if `path` holds anything except a dataset that may be replaced."""
    if not path.exists():
        return
    if not path.is_dir():
        raise PathError(f"{path} is a file; choose a folder that does not exist yet.")
    present = {entry.name for entry in path.iterdir()}
    if not present:
        return
    if not overwrite:
        raise PathError(
            f"{path} is not empty; choose another folder, or replace a dataset by --overwrite "
            "(overwrite=True)."
        )
    try:
        arrays = {item["file"] for item in read_description(path)["modalities"]}
    except (DataError, KeyError, TypeError) as error:
        raise PathError(
            f"{path} is not empty and holds no dataset that overwrite=True may replace ({error}); "
            "choose another folder, or remove it yourself."
        ) from error
    if others := present - {DESCRIPTION_FILE, INDEX_FILE, PREPARATION_FILE, PREVIEW_FILE} - arrays:
        raise PathError(
            f"{path} holds other files than those of a dataset ({listed(sorted(others))}), which "
            "overwrite=True would delete; move them, or choose another folder."
        )


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raise errors of the file system as a RunFolderError about `path`.

    It is a NoSpaceError if the disk is full, and a PathError if `path` is the wrong one.
    """
    try:
        with room_for(path):
            yield
    except OSError as error:
        check_machine(error)
        wrong = isinstance(error, PermissionError | NotADirectoryError | FileExistsError)
        kind = PathError if wrong or error.errno == errno.EROFS else RunFolderError
        reason = error.strerror or error
        raise kind(f"cannot write {path} ({reason}); choose a folder that can be written.") from error


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
