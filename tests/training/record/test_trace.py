"""The trace: what a run records for the curves over epochs, without changing the training."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import equipoise as eq
import synthetic
from equipoise.data import RunData, load_dataset, splits_of
from equipoise.diagnosis import collect_features
from equipoise.training.record.record import RunRecord
from equipoise.training.record.snapshots import Snapshots
from equipoise.training.record.trace import read_trace

RELEARN = {"every": 1, "count": 2, "lam": 6.0}
RUN: dict[str, Any] = {
    "method": "diagnose-relearn",
    "method_options": RELEARN,
    "epochs": 5,
    "batch_size": 16,
    "diagnose_every": 2,
}
MOMENTS = [
    (0, "epoch"),
    (1, "before-relearning"),
    (1, "after-relearning"),
    (1, "epoch"),
    (2, "before-relearning"),
    (2, "after-relearning"),
    (2, "epoch"),
    (4, "epoch"),
]
pytestmark = pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")


@pytest.fixture(scope="module")
def traced(data: str, tmp_path_factory: pytest.TempPathFactory) -> eq.FitResult:
    return eq.fit(data, out=tmp_path_factory.mktemp("traced") / "run", trace=True, **RUN)


def moments(run_dir: Path) -> list[tuple[int, str]]:
    return [(point.epoch, point.event) for point in read_trace(run_dir) or []]


def metrics(result: eq.FitResult) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in event.items() if k != "seconds"}
        for event in RunRecord(result.run_dir).events("metrics.jsonl")
    ]


def test_lines_have_the_format_that_the_charts_expect(traced: eq.FitResult) -> None:
    lines = [json.loads(line) for line in (traced.run_dir / "trace.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["event"]) for line in lines] == MOMENTS == moments(traced.run_dir)
    for line in lines:
        assert set(line) == {"epoch", "event", "modalities", "accuracy"}
        assert set(line["accuracy"]) == {"val", "test"}
        assert {m: set(splits) for m, splits in line["modalities"].items()} == {
            m: {"train", "val", "test"} for m in synthetic.VECTORS
        }
    assert not (traced.run_dir / "snapshots").exists()


def test_purities_and_accuracies_equal_those_of_the_run(traced: eq.FitResult) -> None:
    points = {(point.epoch, point.event): point for point in read_trace(traced.run_dir) or []}
    looks = 0
    for diagnosis in traced.diagnoses:
        moment = "before-relearning" if diagnosis.event == "relearning" else "epoch"
        point = points[diagnosis.epoch, moment]
        for name, state in diagnosis.items():
            assert point.modalities[name]["train"] == state.train_score
            assert point.modalities[name]["val"] == state.val_score
        looks += 1
    assert looks == 6
    held = {event["epoch"]: event for event in metrics(traced) if event["event"] == "epoch"}
    for epoch, event in ((0, "epoch"), (1, "before-relearning"), (2, "before-relearning"), (4, "epoch")):
        assert points[epoch, event].accuracy["val"] == held[epoch]["val_accuracy"]
    for epoch in (1, 2):  # nothing happens between a re-learning and the evaluation after it
        assert points[epoch, "epoch"].modalities == points[epoch, "after-relearning"].modalities


def test_test_figures_belong_to_the_weights_at_that_time(data: str, traced: eq.FitResult) -> None:
    """Only one epoch is trained: its last evaluation has the kept weights."""
    one = eq.fit(data, **(RUN | {"epochs": 1}), trace=True)
    point = (read_trace(one.run_dir) or [])[-1]
    assert point == (read_trace(traced.run_dir) or [])[0]
    assert point.accuracy["test"] == one.test["accuracy"]
    dataset = load_dataset(data)
    run = RunData(dataset, splits_of(dataset), 16)
    encoders = {m: one.model.encoder_module(m) for m in one.model.modalities}
    test = collect_features(encoders, one.model, run.open_test())
    for name, features in test.features.items():
        assert point.modalities[name]["test"] == eq.purity(features, test.target)


def test_a_trace_changes_nothing_else(data: str, traced: eq.FitResult, monkeypatch: Any) -> None:
    opened: list[int] = []
    original = RunData.open_test
    monkeypatch.setattr(RunData, "open_test", lambda self: opened.append(1) or original(self))
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()
    again = eq.fit(data, trace=True, **RUN)
    assert (states[0] == torch.get_rng_state()).all()
    assert states[1] == np.random.get_state()[1].tolist()
    assert opened == [1]
    plain = eq.fit(data, **RUN)
    assert read_trace(plain.run_dir) is None
    for other in (plain, again):
        for name in ("model.safetensors", "diagnosis.jsonl", "predictions.npz"):
            assert (traced.run_dir / name).read_bytes() == (other.run_dir / name).read_bytes(), name
        assert metrics(other) == metrics(traced)
        assert [event["event"] for event in metrics(other)].count("test") == 1
        for key, value in traced.summary.items():
            if not key.endswith("seconds") and key not in ("peak_memory_bytes", "environment"):
                assert other.summary[key] == value, key
    assert (again.run_dir / "trace.jsonl").read_bytes() == (traced.run_dir / "trace.jsonl").read_bytes()


@pytest.mark.parametrize("killed_in", [1, 4])
def test_a_resumed_run_leaves_the_same_trace(
    data: str, out: Path, traced: eq.FitResult, killed_in: int
) -> None:
    class Killed(Exception):
        pass

    def kill(epoch: int, _: object) -> None:
        if epoch == killed_in:
            # Records after the last checkpoint are dropped, here also a truncated line and a truncated file.
            index = out / "snapshots" / "index.jsonl"
            with index.open("a") as file:
                file.write('{"epoch": 9, "ev')
            (out / "snapshots" / ".x.part").write_bytes(b"half")
            raise Killed

    options = RUN | {"checkpoint_every": 2, "trace": True}
    with pytest.raises(Killed):
        eq.fit(data, out=out, on_epoch=kill, **options)
    resumed = eq.fit(data, out=out, resume=True, **options)
    for name in ("trace.jsonl", "model.safetensors", "diagnosis.jsonl"):
        assert (out / name).read_bytes() == (traced.run_dir / name).read_bytes()
    assert metrics(resumed) == metrics(traced)
    assert not (out / "snapshots").exists()


def test_a_run_killed_during_measuring_can_resume(
    data: str, out: Path, traced: eq.FitResult, monkeypatch: Any
) -> None:
    from equipoise.training import ending

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ending, "write_trace", killed)
        with pytest.raises(KeyboardInterrupt):
            eq.fit(data, out=out, trace=True, checkpoint_every=2, **RUN)
    result = eq.fit(data, out=out, trace=True, checkpoint_every=2, resume=True, **RUN)
    assert (out / "trace.jsonl").read_bytes() == (traced.run_dir / "trace.jsonl").read_bytes()
    assert [event["event"] for event in metrics(result)].count("test") == 1


def test_a_strength_of_zero_writes_the_trace_of_joint_training(data: str) -> None:
    options = RUN | {"epochs": 3, "diagnose_every": 1, "trace": True}
    off = read_trace(eq.fit(data, **(options | {"method_options": RELEARN | {"lam": 0.0}})).run_dir) or []
    joint = read_trace(eq.fit(data, **(options | {"method": "joint", "method_options": {}})).run_dir) or []
    assert [point for point in off if point.event == "epoch"] == joint
    assert len(joint) == 3
    moved = [point for point in off if point.event != "epoch"]
    for before, after in zip(moved[::2], moved[1::2], strict=True):
        assert before.modalities == after.modalities
        assert before.accuracy == after.accuracy


def test_the_time_that_snapshots_take_is_not_counted(data: str, monkeypatch: Any) -> None:
    clock, ahead, keep = time.perf_counter, [0.0], Snapshots.keep

    def slow(*arguments: Any) -> None:
        keep(*arguments)
        ahead[0] += 1000

    monkeypatch.setattr(time, "perf_counter", lambda: clock() + ahead[0])
    monkeypatch.setattr(Snapshots, "keep", slow)
    result = eq.fit(data, **(RUN | {"epochs": 2, "method_options": {"epochs": [0, 1]}}), trace=True)
    assert ahead == [6000.0]
    assert 0 < result.summary["method_seconds"] < 500
    assert 0 < result.summary["train_seconds"] < 500


def test_a_trace_in_a_comparison(data: str, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    table = eq.compare(
        data, ["joint", "diagnose-relearn"], seeds=3, out=out, workers=1, trace=True, epochs=1, batch_size=32
    )
    assert not table["rank"].isna().any()
    runs = list((out / "runs").iterdir())
    assert [moments(folder)[-1] for folder in runs] == [(0, "epoch")] * 6


def test_trace_of_a_run_that_builds_on_others(data: str, out: Path) -> None:
    eq.fit(data, "ensemble", out=out, trace=True, epochs=2, batch_size=32)
    assert read_trace(out) == []  # nothing is trained in it
    parts = [moments(folder) for folder in (out / "parts").iterdir()]
    assert parts == [[(0, "epoch"), (1, "epoch")]] * 2
    assert not list(out.rglob("snapshots"))


def test_a_trace_cannot_be_requested_afterwards(data: str, out: Path) -> None:
    quick = {"epochs": 2, "batch_size": 32}
    eq.fit(data, out=out, **quick)
    assert "trace" not in (out / "config.yaml").read_text()
    with pytest.raises(eq.RunFolderError, match=r"trace not set \(requested: True\)"):
        eq.fit(data, out=out, resume=True, trace=True, **quick)
    assert eq.fit(data, out=out, resume=True, trace=False, **quick).run_dir == out
    with pytest.raises(eq.UsageError, match="diagnose_every is 0"):
        eq.fit(data, trace=True, diagnose_every=0, **quick)


def test_a_damaged_trace_is_an_error(data: str, out: Path) -> None:
    eq.fit(data, out=out, epochs=1, batch_size=32, trace=True)
    (out / "trace.jsonl").write_text('{"epoch": 1}\n')
    with pytest.raises(eq.RunFolderError, match="is not as it was written"):
        read_trace(out)
    result = json.loads((out / "result.json").read_text())
    del result["seals"]  # as in records of earlier versions
    (out / "result.json").write_text(json.dumps(result))
    with pytest.raises(eq.RunFolderError, match="not a point of a trace"):
        read_trace(out)
    with pytest.raises(eq.RunFolderError):
        read_trace(out / "nowhere")


def test_weights_of_the_result_are_the_kept_ones(traced: eq.FitResult) -> None:
    held = load_file(traced.run_dir / "model.safetensors")
    assert all(torch.equal(held[name], value) for name, value in traced.model.state_dict().items())
