"""Prepare a dataset: parallel, resumable, all or nothing."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from equipoise.data.format.columns import check_ids
from equipoise.data.format.content import chunks, write_npy_header
from equipoise.data.format.folder import check_destination, listed, write_errors
from equipoise.data.format.modality import Layout, normalized_by
from equipoise.data.format.prepared import PreparedDataset
from equipoise.data.format.writing import finish_dataset, write_dataset
from equipoise.data.prepare.clips import ArrayPreparation, Clip, Lost, Preparation
from equipoise.data.prepare.journal import Work, unlink
from equipoise.data.prepare.summary import LostSamplesError, Summary, count_samples, losses_in_words
from equipoise.data.prepare.workers import Crew
from equipoise.types import DataError, NoSpaceError, RunFolderError, UsageError, check_known

LOSS_ALLOWED = 0.01
"""Part of the samples that may be lost without `allow_missing`."""
PACKAGES = ("equipoise", "numpy", "torch", "scipy", "av", "soundfile", "pillow", "opencv-python-headless")


class Observer(Protocol):
    """Receives the progress of a preparation."""

    def planned(self, total: int, done: int) -> None:
        """Receive the number of samples, and of those that an earlier call has read."""

    def advanced(self, done: int, lost: int) -> None:
        """Receive how many more samples were read, and how many of these are lost."""


@dataclass(frozen=True)
class Prepared:
    """The result of a preparation: the dataset, opened, with counts and losses."""

    dataset: PreparedDataset
    summary: Summary


def prepare(
    preparation: Preparation | ArrayPreparation,
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    isolated: bool = False,
    allow_missing: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
    normalize: Mapping[str, str] | str | None = None,
) -> Prepared:
    """Turn files into a prepared dataset.

    Unfinished work is stored next to `out`: after a kill, an interrupt or too many losses, the same call
    resumes it. The result is identical, byte for byte, for any number of workers and interruptions.

    Args:
        preparation: clips and readers, or arrays.
        out: folder of the dataset.
        workers: processes that decode; None uses one for each core.
        isolated: decode in a separate process even with a single worker, so that a crash of the decoder costs
            one sample and not the whole call.
        allow_missing: accept the loss of more than 1 % of the samples.
        overwrite: replace a prepared dataset in `out`.
        observer: receives the progress.
        normalize: another normalisation than that of the preparation, as of `write_dataset`. It costs no
            reading: the arrays are the same.

    Raises:
        LostSamplesError: too many samples are lost.
        DataError: two samples have the same id, a class has no sample left, or `normalize` does not fit.
        RunFolderError: `out` is in use or cannot be written, another process is preparing it, or the disk is
            too small.
        UsageError: `workers` is below 1, `normalize` names an unknown modality, or a package that a reader
            needs is not installed.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}; expected at least 1.")
    started, path = time.monotonic(), Path(out).expanduser().resolve()
    check_destination(path, overwrite)
    if isinstance(preparation, ArrayPreparation):
        _check_modalities(normalize, preparation.arguments["inputs"])
        if normalize is not None:
            preparation = replace(preparation, arguments=_renormalized(preparation.arguments, normalize))
        dataset, lost = _write_arrays(preparation, path, allow_missing, overwrite)
        read = len(dataset)
    else:
        layouts = {name: reader.layout for name, reader in preparation.readers.items()}
        _check_modalities(normalize, layouts)
        layouts = normalized_by(layouts, normalize)
        crew = Crew(workers or os.cpu_count() or 1, isolated)
        dataset, lost, read = _write_clips(
            preparation, layouts, path, crew, allow_missing, overwrite, observer
        )
    size = sum(spec.row_bytes for spec in dataset.modalities.values()) * len(dataset)
    seconds = time.monotonic() - started
    counts = count_samples(dataset)
    return Prepared(dataset, Summary(counts, tuple(lost), preparation.notes, size, read, seconds))


def _check_modalities(normalize: Mapping[str, str] | str | None, known: Collection[str]) -> None:
    if isinstance(normalize, Mapping):
        check_known("modality", normalize, known)


def _renormalized(arguments: Mapping[str, Any], chosen: Mapping[str, str] | str) -> dict[str, Any]:
    """Return arguments of `write_dataset` with another normalisation, of all modalities or of those named."""
    own = arguments.get("normalize") or {}
    if isinstance(own, str):
        own = dict.fromkeys(arguments["inputs"], own)
    return {**arguments, "normalize": {**own, **chosen} if isinstance(chosen, Mapping) else chosen}


def _write_clips(
    preparation: Preparation,
    layouts: Mapping[str, Layout],
    path: Path,
    crew: Crew,
    allow_missing: bool,
    overwrite: bool,
    observer: Observer | None,
) -> tuple[PreparedDataset, list[Lost], int]:
    if not preparation.clips:
        raise DataError(
            f"no sample of {preparation.name!r} was found; check the source folder and the lists."
        )
    check_ids([clip.id for clip in preparation.clips], len(preparation.clips))
    staging = path.parent / f".{path.name}.preparing"
    lock = FileLock(path.parent / f"{staging.name}.lock", blocking=False)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            held = lock.acquire()
        except Timeout:
            raise RunFolderError(f"another process is preparing {path}; wait until it ends.") from None
        with held:
            try:
                work, read = _read(preparation, staging, crew, observer)
            except NoSpaceError:
                if not staging.exists():  # it has not begun: nothing is left of it
                    Path(lock.lock_file).unlink(missing_ok=True)
                raise
            dataset, lost = _finish(preparation, layouts, path, work, allow_missing, overwrite)
            shutil.rmtree(staging, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)
    return dataset, lost, read


def _read(preparation: Preparation, staging: Path, crew: Crew, observer: Observer | None) -> tuple[Work, int]:
    """Read all samples that no earlier call has read; return the work and the number of these samples."""
    unlink(staging)
    with Work(staging, preparation) as work:
        todo = [(row, clip) for row, clip in enumerate(preparation.clips) if row not in work.outcomes]
        if observer is not None:
            observer.planned(work.count, work.count - len(todo))
        files = {modality: work.file(modality) for modality in work.layouts}
        for outcomes in crew.read(todo, preparation.readers, files):
            work.add(outcomes)
            if observer is not None:
                observer.advanced(len(outcomes), sum(one.lost is not None for one in outcomes))
    return work, len(todo)


def _finish(
    preparation: Preparation,
    layouts: Mapping[str, Layout],
    path: Path,
    work: Work,
    allow_missing: bool,
    overwrite: bool,
) -> tuple[PreparedDataset, list[Lost]]:
    outcomes = [work.outcomes[row] for row in range(work.count)]
    lost = [outcome.lost for outcome in outcomes if outcome.lost is not None]
    _check_losses(lost, work.count, allow_missing)
    kept = np.array([outcome.row for outcome in outcomes if outcome.lost is None], dtype=np.int64)
    columns = _columns(preparation, [preparation.clips[row] for row in kept])
    final = work.folder / "final"
    shutil.rmtree(final, ignore_errors=True)
    final.mkdir()
    for modality, layout in layouts.items():
        source = work.file(modality)
        _keep_rows(source, final / source.name, kept, layout.row_bytes)
    readers = {name: reader.describe() for name, reader in preparation.readers.items()}
    dataset = finish_dataset(
        final,
        path,
        layouts=layouts,
        hashes={m: np.array([outcomes[row].hashes[m] for row in kept]) for m in layouts},
        columns=columns,
        name=preparation.name,
        licence=preparation.licence or None,
        source=preparation.source or None,
        preparation={"readers": readers, **_record(preparation, lost)},
        overwrite=overwrite,
    )
    return dataset, lost


def _columns(preparation: Preparation, clips: Sequence[Clip]) -> dict[str, Any]:
    columns: dict[str, Any] = {"ids": [clip.id for clip in clips]}
    for name in ("split", "group"):
        without = [clip.id for clip in clips if getattr(clip, name) is None]
        if without and len(without) < len(clips):
            raise DataError(
                f"{len(without)} samples have no {name} ({listed(without)}) while others have one; give one "
                "to all of them, or to none."
            )
        if not without:
            columns[name] = [getattr(clip, name) for clip in clips]
    if not preparation.labelled:
        return columns | {"target": np.zeros(len(clips)), "task": "regression"}
    if preparation.classes is None:
        return columns | {"target": [float(clip.label) for clip in clips], "task": "regression"}
    found = {clip.label for clip in clips}
    if empty := [name for name in preparation.classes if name not in found]:
        raise DataError(
            f"{len(empty)} classes have no sample ({listed(empty)}); check the folder, or remove them "
            "from the list of classes."
        )
    place = {name: number for number, name in enumerate(preparation.classes)}
    target = [place[str(clip.label)] for clip in clips]
    return columns | {"target": target, "classes": preparation.classes}


def _keep_rows(source: Path, copy: Path, kept: NDArray[np.int64], size: int) -> None:
    """Copy the kept rows of an array, or hard-link it if all rows are kept; the source is not changed."""
    array = np.load(source, mmap_mode="r")
    if len(kept) == len(array):
        try:
            copy.hardlink_to(source)
        except OSError:  # some file systems have no links
            shutil.copyfile(source, copy)
        return
    with copy.open("wb") as file:
        write_npy_header(file, array.dtype, (len(kept), *array.shape[1:]))
        for part in chunks(len(kept), size):
            file.write(np.ascontiguousarray(array[kept[part]]).data)


def _write_arrays(
    preparation: ArrayPreparation, path: Path, allow_missing: bool, overwrite: bool
) -> tuple[PreparedDataset, list[Lost]]:
    lost = list(preparation.lost)
    _check_losses(lost, len(preparation.arguments["target"]) + len(lost), allow_missing)
    arguments = {"name": preparation.name, **preparation.arguments}
    dataset = write_dataset(path, **arguments, preparation=_record(preparation, lost), overwrite=overwrite)
    return dataset, lost


def _check_losses(lost: Sequence[Lost], total: int, allow_missing: bool) -> None:
    if len(lost) == total:
        raise LostSamplesError(f"none of {total} samples can be prepared: {losses_in_words(lost)}", lost)
    if len(lost) > LOSS_ALLOWED * total and not allow_missing:
        raise LostSamplesError(
            f"{len(lost)} of {total} samples cannot be prepared: {losses_in_words(lost)} Repair them and run "
            "the same command again, which reads only these, or accept the loss with --allow-missing "
            "(allow_missing=True).",
            lost,
        )


def _record(preparation: Preparation | ArrayPreparation, lost: Sequence[Lost]) -> dict[str, Any]:
    """Return the record of a preparation; it does not depend on the time or on the number of attempts."""
    return {
        **({"dataset": dict(preparation.made_by)} if preparation.made_by else {}),
        "facts": dict(preparation.facts),
        "notes": list(preparation.notes),
        "lost": [asdict(one) for one in lost],
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
