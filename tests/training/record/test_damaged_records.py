"""Damaged files of a run are refused with a typed error, also without seals, and with a true digest.

A seal notices damage before anything is read (see `test_damage.py`). Whoever makes a file to do harm writes
the seal too, or leaves it out, as records of earlier versions do.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import equipoise as eq
from equipoise.models.encoders.mlp import MLP
from equipoise.models.local_weights import load_weights
from equipoise.relearning.targets import with_target_file
from equipoise.report.records import read_run
from equipoise.training.record.checkpoints import MARK, restored, save_checkpoint
from equipoise.training.record.predictions import confusion
from equipoise.training.record.record import BEFORE_LAST, CHECKPOINT, METRICS, SNAPSHOT_INDEX, RunRecord
from equipoise.training.record.snapshots import Snapshots
from equipoise.training.record.trace import read_trace
from mutations import refuses_all

EARLIER = Path(__file__).parents[2] / "support" / "earlier" / "run"
WORDS = b'null{}[]"",:-1e999 NaN true "event" "epoch" 1 \xff\xfe \x00 &a *a << ? - |'
pytestmark = pytest.mark.mutations


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Changed settings are warned of, which is not asked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", eq.EquipoiseWarning)
        yield


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run without seals, with a trace."""
    folder = Path(shutil.copytree(EARLIER, tmp_path / "run"))
    point = {"epoch": 0, "event": "epoch", "modalities": {"audio": {"train": 0.5}}, "accuracy": {"val": 0.5}}
    (folder / "trace.jsonl").write_text("".join(json.dumps(point | {"epoch": e}) + "\n" for e in range(3)))
    return folder


READERS: dict[str, Callable[[Path], object]] = {
    "result.json": lambda folder: (read_run(folder), eq.load_run(folder)),
    "config.yaml": lambda folder: (read_run(folder), eq.load_run(folder)),
    "metrics.jsonl": read_run,
    "diagnosis.jsonl": lambda folder: (read_run(folder), eq.load_run(folder)),
    "trace.jsonl": read_trace,
    "predictions.npz": lambda folder: [confusion(folder, split) for split in ("val", "test")],
    "model.safetensors": eq.load_run,
}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_of_a_run_is_refused(name: str, run: Path) -> None:
    other = b"" if name.endswith(("npz", "safetensors")) else WORDS
    assert refuses_all(lambda file: READERS[name](file.parent), run / name, 60, reader="run", other=other)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    """Also one whose digest is right, as it was made like that."""
    record = RunRecord(tmp_path / "run")
    record.folder.mkdir()
    record.append(METRICS, {"event": "start"})
    state = {"epoch": 3, "weights": {"a": torch.arange(6.0)}, "optimizer": {"state": {0: {"step": 1}}}}
    save_checkpoint(record, state)
    content = record.path(CHECKPOINT).read_bytes()
    archive = tmp_path / "archive.pt"
    archive.write_bytes(content[: content.rindex(MARK)])
    events = record.path(METRICS).read_bytes()

    def read(file: Path) -> None:
        record.path(BEFORE_LAST).unlink(missing_ok=True)
        record.path(METRICS).write_bytes(events)
        held = file.read_bytes()
        record.path(CHECKPOINT).write_bytes(held + MARK + hashlib.sha256(held).hexdigest().encode())
        restored(record)

    assert refuses_all(read, archive, 100, reader="checkpoint")


def test_a_damaged_index_of_snapshots_is_refused(tmp_path: Path) -> None:
    record = RunRecord(tmp_path)
    record.path(SNAPSHOT_INDEX).parent.mkdir()
    Snapshots(record).keep(torch.nn.Linear(2, 2), 0, "epoch")
    Snapshots(record).keep(torch.nn.Linear(2, 2), 1, "epoch")

    def read(file: Path) -> None:
        Snapshots(record).all()
        Snapshots(record).check(file.stat().st_size)

    assert refuses_all(read, record.path(SNAPSHOT_INDEX), 60, reader="snapshots", other=WORDS)


@pytest.mark.parametrize("name", ["9b" * 300, "../other", "", 7, None])
def test_a_snapshot_is_named_by_a_digest(name: object, tmp_path: Path) -> None:
    """The index names files: nothing else is looked for, such as a name that is too long for the system."""
    record = RunRecord(tmp_path)
    index = record.path(SNAPSHOT_INDEX)
    index.parent.mkdir()
    index.write_text(json.dumps({"epoch": 0, "event": "epoch", "weights": name}) + "\n", encoding="utf-8")
    for read in (Snapshots(record).all, lambda: Snapshots(record).check(index.stat().st_size)):
        with pytest.raises(eq.RunFolderError, match="for 'weights', expected a digest"):
            read()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "old.pt"])
def test_damaged_weights_are_refused(name: str, tmp_path: Path) -> None:
    encoder, file = MLP(4, hidden=(4,)), tmp_path / name
    state = encoder.state_dict()
    if name.endswith("safetensors"):
        save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=name == "a.pt")
    assert refuses_all(lambda path: load_weights(encoder, path), file, 100, reader="weights")


def test_a_damaged_target_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "target.safetensors"
    save_file({"audio.weight": torch.ones(2, 2), "video.bias": torch.ones(2)}, file)
    read = lambda path: with_target_file({"target": str(path)}, ["audio", "video"])  # noqa: E731
    assert refuses_all(read, file, 60, reader="target of re-learning")
