"""Snapshots of weights: atomic, stored once each, and removed if newer than the checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import equipoise as eq
from equipoise.training.record.record import RunRecord
from equipoise.training.record.snapshots import Snapshots


class Tied(nn.Module):
    """Weights that share memory, a buffer, and a number that is no float."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)
        nn.init.constant_(self.first.weight, value)


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(RunRecord(tmp_path))


def files(snapshots: Snapshots) -> list[Path]:
    return sorted((snapshots.record.folder / "snapshots").glob("*.safetensors"))


def test_weights_are_restored_in_order_and_equal_ones_are_stored_once(snapshots: Snapshots) -> None:
    model = Tied(1.0)
    snapshots.keep(model, 0, "epoch")
    snapshots.keep(model, 1, "before-relearning")
    nn.init.constant_(model.first.weight, 2.0)
    snapshots.keep(model, 1, "after-relearning")
    nn.init.constant_(model.first.weight, 1.0)
    snapshots.keep(model, 2, "epoch")
    assert len(files(snapshots)) == 2
    other = Tied(0.0)
    seen = [
        (s.epoch, s.event, changed, other.second.weight[0, 0].item())
        for s, changed in snapshots.states(other)
    ]
    assert seen == [
        (0, "epoch", True, 1.0),
        (1, "before-relearning", False, 1.0),
        (1, "after-relearning", True, 2.0),
        (2, "epoch", True, 1.0),
    ]


def test_buffers_are_part_of_a_snapshot(snapshots: Snapshots) -> None:
    model = Tied(1.0)
    snapshots.keep(model, 0, "epoch")
    model.train()
    model.norm(torch.randn(4, 3))
    snapshots.keep(model, 1, "epoch")
    assert len(files(snapshots)) == 2
    other = Tied(0.0)
    counts = [int(other.norm.num_batches_tracked) for _ in snapshots.states(other)]
    assert counts == [0, 1]


def test_snapshots_after_the_checkpoint_are_dropped(snapshots: Snapshots) -> None:
    record = snapshots.record
    assert record.confirmed()["snapshots/index.jsonl"]["bytes"] == 0
    snapshots.keep(Tied(1.0), 0, "epoch")
    known, (first,) = record.confirmed(), files(snapshots)
    snapshots.keep(Tied(2.0), 1, "epoch")
    record.cut_back(known)
    snapshots.drop_unnamed()
    assert [s.epoch for s in snapshots.all()] == [0]
    assert files(snapshots) == [first]
    snapshots.keep(Tied(2.0), 1, "epoch")
    assert [s.epoch for s in snapshots.all()] == [0, 1]
    assert len(files(snapshots)) == 2
    record.tidy()
    assert snapshots.all() == []
    assert not (record.folder / "snapshots").exists()


def test_a_missing_or_damaged_file(snapshots: Snapshots) -> None:
    snapshots.keep(Tied(1.0), 7, "epoch")
    size = snapshots.record.confirmed()["snapshots/index.jsonl"]["bytes"]
    snapshots.check(size)
    (path,) = files(snapshots)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):  # a value, or the shape or name of a tensor
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(eq.RunFolderError, match="of epoch 7 is damaged; overwrite the run"):
            list(snapshots.states(Tied(0.0)))
        with pytest.raises(eq.RunFolderError, match="of epoch 7 is damaged"):
            snapshots.check(size)
    path.unlink()
    with pytest.raises(eq.RunFolderError, match="of epoch 7 is missing"):
        snapshots.check(size)


def test_an_unwritable_folder(snapshots: Snapshots) -> None:
    (snapshots.record.folder / "snapshots").write_text("in the way")
    with pytest.raises(eq.RunFolderError, match="train without a trace, or choose another folder"):
        snapshots.keep(Tied(1.0), 0, "epoch")


def test_a_resumed_run_reports_a_missing_snapshot_at_once(data: str, tmp_path: Path) -> None:
    options = {"epochs": 4, "batch_size": 16, "checkpoint_every": 1, "trace": True, "out": tmp_path / "run"}

    class Killed(Exception):
        pass

    def kill(epoch: int, _: object) -> None:
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        eq.fit(data, on_epoch=kill, **options)
    held = sorted((tmp_path / "run" / "snapshots").glob("*.safetensors"))
    assert len(held) == 2
    held[0].unlink()
    epochs: list[int] = []
    with pytest.raises(eq.RunFolderError, match="is missing"):
        eq.fit(data, resume=True, on_epoch=lambda epoch, _: epochs.append(epoch), **options)
    assert epochs == []
