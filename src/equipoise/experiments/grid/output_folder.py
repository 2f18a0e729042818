"""The output folder of a comparison: prepared, resumed or replaced. Other files are never touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import yaml

from equipoise.experiments.compare.comparison import CONFIG, REPORT, RESULTS, RUNS, SUMMARY
from equipoise.files.limits import check_machine
from equipoise.files.whole import PARTIAL, room_for, write_atomically
from equipoise.tracking.services import remove_store
from equipoise.training.record.locks import LOCK, locked
from equipoise.training.record.record import ERROR, FLOORS, MACHINE_ONLY, RunRecord
from equipoise.types import PathError, RunFolderError

GRID: Final = "grid.csv"
"""The table over all cells of a grid."""
EXTENSIBLE = frozenset({"methods", "seeds", "first_seed", "set", "rank_anyway"})
"""Options that a resumed comparison may extend; its runs are checked one by one."""


def check_folder(folder: Path, configuration: Mapping[str, Any], *, resume: bool, overwrite: bool) -> bool:
    """Check that `folder` may hold a comparison of this configuration; return whether it holds one.

    Raises:
        PathError: it holds other things, or another comparison.
    """
    if not folder.exists() or _unused(folder):
        return False
    if not (folder / CONFIG).is_file() or not (folder / RUNS).is_dir():
        raise PathError(
            f"{folder} is in the way: it exists and holds no comparison; choose another folder (--out)."
        )
    if overwrite:
        return True
    if not resume:
        raise PathError(
            f"{folder} holds a comparison already; resume it, overwrite it, or choose another "
            "folder (--resume, --overwrite, --out)."
        )
    RunRecord(folder).check_same(configuration, MACHINE_ONLY | EXTENSIBLE)
    return True


def open_folder(folder: Path, configuration: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Prepare `folder`, whose lock is held, for a comparison of this configuration.

    Raises:
        PathError: it cannot be written; or see `check_folder`, and nothing is changed.
        RunFolderError: another process is writing a run that would be replaced.
    """
    if check_folder(folder, configuration, resume=resume, overwrite=overwrite) and overwrite:
        _clear(folder)
    try:
        with room_for(folder / RUNS):
            (folder / RUNS).mkdir(parents=True, exist_ok=True)
        write_atomically(folder / CONFIG, yaml.safe_dump(dict(configuration), sort_keys=False))
    except OSError as error:
        check_machine(error)
        raise PathError(
            f"cannot write the folder {folder} ({error.strerror or error}); choose another one (--out)."
        ) from None


def check_grid_folder(out: Path) -> None:
    """Check that a folder may hold the comparisons of a grid.

    Raises:
        PathError: it holds other things, or is itself a comparison.
    """
    if not out.exists():
        return
    foreign = not out.is_dir() or any(
        not _unused(path) and not (path / RUNS).is_dir()
        for path in out.iterdir()
        if path.name not in (GRID, REPORT) and not path.match(PARTIAL)
    )
    if foreign or (out / RUNS).is_dir():
        raise PathError(
            f"{out} is in the way: it exists and holds other things than the comparisons of a grid; choose "
            "another folder (--out)."
        )


def held_configuration(folder: Path) -> dict[str, Any]:
    """Return the configuration of the comparison in `folder`; an empty one where there is none.

    Raises:
        RunFolderError: the file is damaged.
    """
    # A run has a configuration too; `open_folder` refuses its folder.
    record = RunRecord(folder)
    if not (record.holds_comparison and record.path(CONFIG).is_file()):
        return {}
    held = record.options()

    def check(name: str, *, fits: bool, expected: str) -> None:
        if not fits:
            raise RunFolderError(
                f"{record.path(CONFIG)} has {name}: {held.get(name)!r}, expected {expected}; restore it, or "
                "choose another folder (--out)."
            )

    def all_are(kind: type, values: object) -> bool:
        return isinstance(values, list) and bool(values) and all(isinstance(value, kind) for value in values)

    check("methods", fits=all_are(str, held.get("methods")), expected="a list of names")
    check("seeds", fits=all_are(int, held.get("seeds")), expected="a list of whole numbers")
    check("first_seed", fits=isinstance(held.get("first_seed", 0), int), expected="a whole number")
    return held


def tidy(folder: Path, finished: Iterable[Path] = ()) -> None:
    """Remove what killed processes left of files that they were writing, also in the `finished` runs."""
    for path in [*folder.glob(PARTIAL), *(folder / FLOORS).glob(PARTIAL)]:
        path.unlink(missing_ok=True)
    for run in finished:
        with locked(run, wait=True):
            RunRecord(run).tidy()


def _unused(folder: Path) -> bool:
    """Return whether a folder holds at most what a start left that was killed before it was recorded."""
    if not folder.is_dir():
        return False
    entries = [path for path in folder.iterdir() if path.name != LOCK and not path.match(PARTIAL)]
    return all(path.name == RUNS and path.is_dir() and not any(path.iterdir()) for path in entries)


def _clear(folder: Path) -> None:
    """Remove what a comparison writes, and nothing else.

    A run folder that also holds other files keeps its configuration, which marks it as one that may be
    overwritten.
    """
    runs = [path for path in (folder / RUNS).iterdir() if path.is_dir()]
    with ExitStack() as locks:
        for path in runs:  # a worker may have outlived its comparison
            locks.enter_context(locked(path))
        for path in runs:
            record = RunRecord(path)
            if record.path(CONFIG).is_file():
                configuration = record.path(CONFIG).read_bytes()
                record.clear()
                if any(entry.name != LOCK for entry in path.iterdir()):
                    record.path(CONFIG).write_bytes(configuration)
            elif {entry.name for entry in path.iterdir()} <= {ERROR, LOCK}:
                record.path(ERROR).unlink(missing_ok=True)  # of a run that failed before it began
    for path in runs:
        with suppress(OSError):  # it holds other files
            path.rmdir()
    if not any((folder / RUNS).iterdir()):
        (folder / RUNS).rmdir()
    shutil.rmtree(folder / FLOORS, ignore_errors=True)
    remove_store(folder)
    for name in (RESULTS, SUMMARY, REPORT):
        (folder / name).unlink(missing_ok=True)
