"""The folder of a tuning: prepared, resumed or replaced. Other files are never touched."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

from equipoise.experiments.compare.tuned import FREE, TUNED, Tuned, read_tuned
from equipoise.experiments.tune.tuning import DATABASE, WORK
from equipoise.files.whole import PARTIAL
from equipoise.training.record.locks import LOCK
from equipoise.types import PathError, UsageError

OWN: Final = (TUNED, DATABASE, f"{DATABASE}-journal")
SAME: Final = ("data_fingerprint", "split_fingerprint", "figure", "trials", "seeds", "storage")


def held_tuning(folder: Path, *, resume: bool, overwrite: bool) -> Tuned | None:
    """Return the tuning in a folder that is to be resumed; None where a new one begins.

    Raises:
        PathError: the folder holds other things, or a tuning that is neither to be resumed nor replaced.
        RunFolderError: the tuning to be resumed is damaged.
    """
    if _unused(folder):
        return None
    if not (folder / TUNED).is_file():
        raise PathError(
            f"{folder} is in the way: it exists and holds no tuning; choose another folder (--out)."
        )
    if resume:
        return read_tuned(folder, resume=True)
    if overwrite:
        return None
    raise PathError(
        f"{folder} holds a tuning already; resume it, overwrite it, or choose another folder (--resume, "
        "--overwrite, --out)."
    )


def check_same(held: Tuned, wanted: Tuned) -> None:
    """Check that a tuning to be resumed is the one that is asked for.

    Raises:
        PathError: it is another one.
    """
    pairs = {key: (getattr(held, key), getattr(wanted, key)) for key in SAME}
    for key in sorted({*held.settings, *wanted.settings} - FREE):
        pairs[key] = held.settings.get(key, "not set"), wanted.settings.get(key, "not set")
    if differing := [f"{key} {own} (requested: {new})" for key, (own, new) in pairs.items() if own != new]:
        raise PathError(
            f"{held.folder} holds another tuning: {'; '.join(differing[:4])}"
            f"{' and more' if len(differing) > 4 else ''}. Choose another folder, or overwrite it."
        )


def clear(folder: Path, *, keep_trials: bool) -> None:
    """Remove what interrupted trials left, and also the trials themselves unless they are kept."""
    shutil.rmtree(folder / WORK, ignore_errors=True)
    if not keep_trials:
        for name in OWN:
            (folder / name).unlink(missing_ok=True)


def storage_url(folder: Path, storage: str | None) -> str:
    """Return the URL of the database of the trials, by default a file of SQLite in the folder.

    Raises:
        UsageError: the text is no URL.
    """
    if storage is None:
        return f"sqlite:///{folder.absolute() / DATABASE}"
    if "://" not in storage:
        raise UsageError(
            f"storage is {storage!r}; expected the URL of a database, such as "
            "postgresql://user:password@host/name or sqlite:////shared/trials.db."
        )
    return storage


def shown_url(storage: str | None) -> str | None:
    """Return the URL of a database without user and password."""
    return None if storage is None else re.sub(r"://[^/]*@", "://", storage)


def _unused(folder: Path) -> bool:
    """Return whether a folder holds at most what a start left that ended before it was recorded."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    return all(path.name == LOCK or path.match(PARTIAL) for path in folder.iterdir())
