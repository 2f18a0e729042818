"""Trackers get every number of a run's record once, and neither change nor end it."""

from __future__ import annotations

import csv
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.loggers import csv_logs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.io.gfile import LocalFileSystem

import equipoise as eq
import synthetic
from equipoise.tracking import services
from equipoise.training.record.tracked import failures
from equipoise.types import EquipoiseWarning, MissingExtraError, UnknownNameError
from interrupted import Killed

RELEARN: dict[str, Any] = {
    "method": "diagnose-relearn",
    "method_options": {"epochs": [1, 2]},
    "epochs": 5,
    "batch_size": 32,
    "diagnose_every": 1,
    "checkpoint_every": 2,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(synthetic.write(tmp_path_factory.mktemp("data") / "two", count=90).path)


@pytest.fixture(scope="module")
def plain(data: str) -> eq.FitResult:
    return eq.fit(data, **RELEARN)


def same_weights(first: eq.FitResult, second: eq.FitResult) -> bool:
    one, two = first.model.state_dict(), second.model.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def recorded(folder: Path) -> dict[tuple[str, int], float]:
    """Return the numbers of a record by series and epoch, read off its files line by line."""
    found: dict[tuple[str, int], float] = {}
    relearnt = set()
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        epoch = event.get("epoch", RELEARN["epochs"] - 1)
        for key, value in event.items():
            if key in ("lr", "seconds"):
                found[key, epoch] = value
            for split in ("train", "val", "test"):
                if key.startswith(f"{split}_"):
                    found[f"{split}/{key.removeprefix(f'{split}_')}", epoch] = value
    for line in (folder / "diagnosis.jsonl").read_text().splitlines():
        event = json.loads(line)
        epoch = event["epoch"]
        after = "after-relearning/" if epoch in relearnt else ""
        if event["event"] == "relearning":
            relearnt.add(epoch)
        for name, state in event["modalities"].items():
            found[f"{after}purity/{name}/train", epoch] = state["train_score"]
            found[f"{after}purity/{name}/val", epoch] = state["val_score"]
            found[f"{after}gap/{name}", epoch] = state["gap"]
            if event["event"] == "relearning":
                found[f"strength/{name}", epoch] = state["applied"]
    return found


def in_tensorboard(folder: Path) -> tuple[dict[tuple[str, int], float], dict[str, list[int]]]:
    """Return scalars by tag and step, each of which occurs once, and the steps of the pictures by tag."""
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    read.Reload()
    events = [(tag, one.step, one.value) for tag in read.Tags()["scalars"] for one in read.Scalars(tag)]
    assert len({(tag, step) for tag, step, _ in events}) == len(events)
    pictures = {tag: [one.step for one in read.Images(tag)] for tag in read.Tags()["images"]}
    return {(tag, step): value for tag, step, value in events}, pictures


def in_table(folder: Path) -> dict[tuple[str, int], float]:
    with (folder / "metrics.csv").open(newline="") as file:
        cells = [(k, int(row["step"]), v) for row in csv.DictReader(file) for k, v in row.items() if v]
    found = [(name, step, float(value)) for name, step, value in cells if name != "step"]
    assert len({(name, step) for name, step, _ in found}) == len(found)
    return {(name, step): value for name, step, value in found}


def rounded(values: dict[tuple[str, int], float]) -> dict[tuple[str, int], float]:
    """Return numbers in single precision, in which TensorBoard keeps them."""
    return {key: float(torch.tensor(value, dtype=torch.float32)) for key, value in values.items()}


def without_seconds(values: dict[tuple[str, int], float]) -> dict[tuple[str, int], float]:
    return {key: value for key, value in values.items() if key[0] != "seconds"}


def test_each_number_of_the_record_is_in_each_tracker_and_the_weights_are_the_same(
    data: str, plain: eq.FitResult, tmp_path: Path
) -> None:
    result = eq.fit(data, out=tmp_path / "run", logger=["tensorboard", "csv"], **RELEARN)
    assert same_weights(plain, result)
    assert plain.test == result.test
    expected = recorded(result.run_dir)
    assert {"train/loss", "val/accuracy", "test/macro_f1", "lr"} <= {name for name, _ in expected}
    assert {"purity/audio/train", "gap/video", "strength/audio"} <= {name for name, _ in expected}
    scalars, pictures = in_tensorboard(result.run_dir)
    assert scalars == rounded(expected)
    assert in_table(result.run_dir) == expected
    assert pictures == {"features/audio": [0, 1, 2, 3, 4], "features/video": [0, 1, 2, 3, 4]}


def test_a_resumed_run_continues_its_trackers_and_repeats_no_step(data: str, tmp_path: Path) -> None:
    folder, names = tmp_path / "run", ["tensorboard", "csv"]

    def kill(epoch: int, _: dict[str, float]) -> None:
        if epoch == 3:  # two epochs after the checkpoint of the first two
            raise Killed

    with pytest.raises(Killed):
        eq.fit(data, out=folder, logger=names, on_epoch=kill, **RELEARN)
    killed = json.loads((folder / "trackers.json").read_text())["tensorboard"]
    result = eq.fit(data, out=folder, logger=names, resume=True, **RELEARN)
    assert killed["metrics.jsonl"] == 5  # the start and four epochs
    expected = without_seconds(recorded(result.run_dir))
    scalars, pictures = in_tensorboard(folder)
    assert without_seconds(scalars) == rounded(expected)
    assert without_seconds(in_table(folder)) == expected
    assert pictures == {"features/audio": [0, 1, 2, 3, 4], "features/video": [0, 1, 2, 3, 4]}
    assert len(list(folder.glob("events.out.tfevents.*"))) == 2


def test_a_run_that_was_interrupted_without_a_tracker_has_all_its_epochs_in_one(
    data: str, tmp_path: Path
) -> None:
    def kill(epoch: int, _: dict[str, float]) -> None:
        if epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        eq.fit(data, out=tmp_path / "run", on_epoch=kill, **RELEARN)
    result = eq.fit(data, out=tmp_path / "run", logger="tensorboard", resume=True, **RELEARN)
    assert in_tensorboard(result.run_dir)[0] == rounded(recorded(result.run_dir))


def test_a_tracker_is_no_setting_of_the_run(data: str, plain: eq.FitResult, tmp_path: Path) -> None:
    with_one = eq.fit(data, out=tmp_path / "run", logger="csv", **RELEARN)
    again = eq.fit(data, out=tmp_path / "run", resume=True, **RELEARN)
    assert again.summary == with_one.summary
    fingerprints = [key for key in plain.summary if key.endswith("fingerprint")]
    assert len(fingerprints) >= 5
    assert [plain.summary[key] for key in fingerprints] == [with_one.summary[key] for key in fingerprints]
    assert "logger" not in (plain.run_dir / "config.yaml").read_text()


def test_overwriting_a_run_removes_what_its_trackers_wrote_and_nothing_else(
    data: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    eq.fit(data, out=folder, logger=["tensorboard", "csv"], **RELEARN)
    (folder / "notes.txt").write_text("mine")
    eq.fit(data, out=folder, overwrite=True, **RELEARN)
    left = {path.name for path in folder.iterdir()}
    assert not [name for name in left if "tfevents" in name or name in ("metrics.csv", "trackers.json")]
    assert "notes.txt" in left


class Full(csv_logs.CSVLogger):
    """A logger whose disk is full from the third call on."""

    calls = 0

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        Full.calls += 1
        torch.rand(3)  # and that draws numbers
        if Full.calls > 2:
            raise OSError(28, os.strerror(28))
        super().log_metrics(*args, **kwargs)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_logs, "CSVLogger", Full)
    monkeypatch.setattr(Full, "calls", 0)


@pytest.mark.usefixtures("full")
def test_a_tracker_that_fails_is_left_out_with_one_warning(
    data: str, plain: eq.FitResult, tmp_path: Path
) -> None:
    with pytest.warns(EquipoiseWarning, match="'csv' failed .*No space left.*goes on") as caught:
        result = eq.fit(data, out=tmp_path / "run", logger=["csv", "tensorboard"], **RELEARN)
    assert len([one for one in caught if "'csv'" in str(one.message)]) == 1
    assert Full.calls == 3
    assert same_weights(plain, result)
    assert in_tensorboard(result.run_dir)[0] == rounded(recorded(result.run_dir))  # the other one goes on


def test_tensorboard_without_room_is_left_out_in_one_line(
    data: str, plain: eq.FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    append = LocalFileSystem.append

    def until_full(self: Any, name: str, content: Any, binary_mode: bool = False) -> None:
        written.append(len(content))
        if len(written) > 3:  # in the thread that writes
            raise OSError(28, os.strerror(28))
        append(self, name, content, binary_mode)

    monkeypatch.setattr(LocalFileSystem, "append", until_full)
    with pytest.warns(EquipoiseWarning, match="'tensorboard' failed .*No space left") as caught:
        result = eq.fit(data, out=tmp_path / "run", logger="tensorboard", **RELEARN)
    assert len([one for one in caught if "'tensorboard'" in str(one.message)]) == 1
    assert same_weights(plain, result)
    assert not shown  # no traceback of the thread


def test_a_service_that_cannot_be_reached_does_not_stop_a_run(
    data: str, plain: eq.FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setitem(services.SERVICES, "csv", refuse)
    with pytest.warns(EquipoiseWarning, match="ConnectionError: no route to host"):
        result = eq.fit(data, out=tmp_path / "run", logger="csv", **RELEARN)
    assert same_weights(plain, result)


def test_a_missing_package_or_an_unknown_name_is_said_before_anything_is_written(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(services.PACKAGES, "wandb", (("no-such-wandb", "no_such_wandb"),))
    with pytest.raises(MissingExtraError, match=r"pip install 'equipoise\[wandb\]'") as caught:
        eq.fit(data, out=tmp_path / "run", logger="wandb")
    assert "\n" not in str(caught.value)
    with pytest.raises(MissingExtraError):
        eq.compare(data, ["joint"], seeds=1, out=tmp_path / "compared", logger="wandb")
    with pytest.raises(UnknownNameError, match="did you mean tensorboard"):
        eq.fit(data, out=tmp_path / "run", logger="tensorbord")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_every_run_of_a_comparison_has_a_tracker_of_its_own(
    data: str, tmp_path: Path, side_by_side: int
) -> None:
    settings = {"epochs": 3, "batch_size": 32, "side_by_side": side_by_side, "workers": 1}
    eq.compare(data, ["joint"], seeds=2, out=tmp_path / "with", logger="tensorboard", **settings)
    eq.compare(data, ["joint"], seeds=2, out=tmp_path / "without", **settings)
    for run in ("joint-seed0", "joint-seed1"):
        folder, other = tmp_path / "with/runs" / run, tmp_path / "without/runs" / run
        assert same_weights(eq.load_run(folder), eq.load_run(other))
        scalars, _ = in_tensorboard(folder)
        events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses = {("train/loss", e["epoch"]): e["train_loss"] for e in events if e["event"] == "epoch"}
        assert len(losses) == 3
        assert rounded(losses).items() <= scalars.items()


@pytest.mark.usefixtures("full")
def test_a_comparison_says_once_that_a_tracker_of_its_workers_has_failed(data: str, tmp_path: Path) -> None:
    with pytest.warns(EquipoiseWarning, match="'csv' failed") as caught:
        eq.compare(data, ["joint"], seeds=2, out=tmp_path / "c", logger="csv", epochs=2, workers=1)
    assert len([one for one in caught if "'csv'" in str(one.message)]) == 1
    assert failures(tmp_path / "c/runs/joint-seed1")


@pytest.mark.matrix
def test_of_several_processes_the_first_one_tracks(data: str, tmp_path: Path) -> None:
    settings = {**RELEARN, "epochs": 3, "device": "cpu"}
    eq.fit(data, out=tmp_path / "run", devices=2, logger=["tensorboard", "csv"], **settings)
    assert len(list((tmp_path / "run").glob("events.out.tfevents.*"))) == 1
    scalars, pictures = in_tensorboard(tmp_path / "run")
    assert [step for name, step in scalars if name == "val/accuracy"] == [0, 1, 2]
    assert pictures == {"features/audio": [0, 1, 2], "features/video": [0, 1, 2]}
