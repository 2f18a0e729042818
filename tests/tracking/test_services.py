"""Weights & Biases and MLflow offline: all that a run tells them is there, once, also after a resume.

`make trackers` installs both; elsewhere these tests are skipped.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import equipoise as eq
import synthetic
from equipoise.tracking.series import series
from interrupted import Killed

SETTINGS: dict[str, Any] = {
    "method": "diagnose-relearn",
    "method_options": {"epochs": [1, 3]},
    "epochs": 5,
    "batch_size": 32,
    "checkpoint_every": 2,
    "diagnose_every": 1,
}
Numbers = dict[tuple[str, int], float]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(synthetic.write(tmp_path_factory.mktemp("data") / "two", count=90).path)


def interrupted_and_resumed(data: str, folder: Path, logger: str) -> None:
    def kill(epoch: int, _: dict[str, float]) -> None:
        if epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        eq.fit(data, out=folder, logger=logger, on_epoch=kill, **SETTINGS)
    eq.fit(data, out=folder, logger=logger, resume=True, **SETTINGS)


def recorded(folder: Path) -> Numbers:
    """Return the numbers of a record by series and epoch, but for times, which a resumed run repeats."""
    found: Numbers = {}
    epoch, relearnt = 0, set[int]()
    for name in ("metrics.jsonl", "diagnosis.jsonl"):
        for line in (folder / name).read_text().splitlines():
            event = json.loads(line)
            epoch = event.get("epoch", epoch)
            values = series(event, again=name == "diagnosis.jsonl" and epoch in relearnt)
            if event["event"] == "relearning":
                relearnt.add(epoch)
            found |= {(key, epoch): value for key, value in values.items() if key != "seconds"}
    return found


def records(file: Path) -> Iterator[bytes]:
    """Yield the records of a file of Weights & Biases: a log of LevelDB after seven bytes."""
    content, place, part = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if (left := -place % 32768) and left < 7:  # the rest of a block
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + 7])
        piece = content[place + 7 : place + 7 + size]
        place += 7 + size
        part = piece if kind in (1, 2) else part + piece
        if kind in (1, 4):
            yield part


def in_wandb(folder: Path) -> tuple[list[tuple[str, int, float]], set[tuple[str, str, str]], int]:
    """Return the numbers of all offline parts, the run that they belong to, and the number of pictures."""
    from wandb.proto import wandb_internal_pb2

    numbers, runs, pictures = [], set(), 0
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for content in records(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            if record.WhichOneof("record_type") == "run":
                runs.add((record.run.run_id, record.run.project, record.run.run_group))
            if record.WhichOneof("record_type") != "history":
                continue
            row = {one.key or "/".join(one.nested_key): one.value_json for one in record.history.item}
            step = json.loads(row.pop("trainer/global_step"))
            pictures += sum(key.startswith("features/") and key.endswith("/count") for key in row)
            shown = {k: v for k, v in row.items() if not k.startswith(("_", "features/")) and k != "seconds"}
            numbers += [(key, step, float(json.loads(value))) for key, value in shown.items()]
    return numbers, runs, pictures


def test_weights_and_biases(data: str, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    interrupted_and_resumed(data, tmp_path / "run", "wandb")
    numbers, runs, pictures = in_wandb(tmp_path / "run")
    assert {(name, step): value for name, step, value in numbers} == recorded(tmp_path / "run")
    assert len(numbers) == len(recorded(tmp_path / "run"))
    assert len(list((tmp_path / "run").glob("wandb/offline-run-*"))) == 2  # parts of one run
    assert [run[1:] for run in runs] == [("equipoise", "")]
    assert pictures == 2 * SETTINGS["epochs"]


def test_runs_of_a_comparison_side_by_side_do_not_mix(data: str, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    options: dict[str, Any] = {"epochs": 2, "workers": 1, "side_by_side": 2, "logger": "wandb"}
    eq.compare(data, ["joint"], seeds=2, out=tmp_path / "both", **options)
    found = [in_wandb(tmp_path / "both/runs" / name) for name in ("joint-seed0", "joint-seed1")]
    for (numbers, runs, _), name in zip(found, ("joint-seed0", "joint-seed1"), strict=True):
        assert {(k, step): v for k, step, v in numbers} == recorded(tmp_path / "both/runs" / name)
        assert [run[1:] for run in runs] == [("equipoise", "both")]
    assert found[0][1].isdisjoint(found[1][1])


def in_mlflow(database: Path) -> dict[str, tuple[list[tuple[str, int, float]], Any, int]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    found = {}
    for run in client.search_runs([one.experiment_id for one in client.search_experiments()]):
        history = [
            (key, one.step, one.value)
            for key in run.data.metrics
            if key != "seconds"
            for one in client.get_metric_history(run.info.run_id, key)
        ]
        # A picture has a second, small file.
        pictures = len(client.list_artifacts(run.info.run_id, "images")) // 2
        found[run.info.run_name] = history, run, pictures
    return found


def test_mlflow(data: str, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    interrupted_and_resumed(data, tmp_path / "run", "mlflow")
    [(numbers, run, pictures)] = in_mlflow(tmp_path / "run/mlflow.db").values()
    assert {(name, step): value for name, step, value in numbers} == recorded(tmp_path / "run")
    assert len(numbers) == len(recorded(tmp_path / "run"))
    assert run.info.status == "FINISHED"
    assert run.data.params["method"] == "diagnose-relearn"
    assert pictures == 2 * SETTINGS["epochs"]
    assert all(math.isfinite(value) for _, _, value in numbers)


def test_workers_share_one_database(data: str, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    eq.compare(data, ["joint"], seeds=2, epochs=2, out=tmp_path / "both", workers=2, logger="mlflow")
    found = in_mlflow(tmp_path / "both/mlflow.db")
    assert sorted(found) == ["joint-seed0", "joint-seed1"]
    for name, (numbers, run, _) in found.items():
        assert {(k, step): v for k, step, v in numbers} == recorded(tmp_path / "both/runs" / name)
        assert run.data.tags["group"] == "both"
