"""A run shared by several processes is the run of one, whatever the method."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import equipoise as eq
import other_tasks
import shared_runs
import synthetic
from equipoise.methods import METHODS, create_method
from equipoise.models import BalancedModel, build_model
from equipoise.training.processes import sharding
from equipoise.training.processes.sharding import check_sharding, shards
from equipoise.training.record.inputs import read_inputs
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Settings
from processes import in_two_processes, torchrun
from sharded import half_of_each_encoder

RELEARN = {"method": "diagnose-relearn", "method_options": {"epochs": [0, 2], "lam": 5.0}}
SHAPES = {"audio": (8,), "video": (1, 8, 8)}
OPTIONS: dict[str, dict[str, Any]] = {
    "agm": {"alpha": 5.0},
    "arl": {"warmup_epochs": 0},
    "diagnose-relearn": RELEARN["method_options"],
    "diagnose-relearn-plus": {"cycles": 2, "distillation": "last", "cycle_mean": True},
    "fixed-modulation": {"factors": {"video": 0.5}},
    "inforeg": {"loss": "joint+unimodal"},
    "modality-valuation": {"warmup": 1, "rate": "power", "alpha": 5.0},
    "opm": {"start_epoch": 0, "p_exe": 1.0},
    "reconboost": {"boost_epochs": 1, "rectify_epochs": 1},
    "sample-valuation": {"warmup": 1},
    "short-ensemble": {"nets": 2},
}
EVERY = {
    name: {
        "method": "unimodal:video" if name == "unimodal" else name,
        "method_options": OPTIONS.get(name, {}),
    }
    for name in METHODS
    if name != "greedy"
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(synthetic.write(tmp_path_factory.mktemp("data") / "two", SHAPES, count=160).path)


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def without_times(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if "seconds" not in key}


@pytest.fixture(autouse=True)
def double(float64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float64, in the processes, too."""
    monkeypatch.setenv("DOUBLE", "1")


def assert_equal_runs(data: str, wanted: dict[str, dict[str, Any]], count: int, tmp_path: Path) -> None:
    (tmp_path / "wanted.json").write_text(json.dumps({name: (data, own) for name, own in wanted.items()}))
    for ended in torchrun(shared_runs.__file__, tmp_path, cwd=tmp_path, count=count):
        assert ended.returncode == 0, ended.stderr[-3000:]
    for name, own in wanted.items():
        alone, folder = shared_runs.trained(tmp_path / "alone", name, data, own), tmp_path / name
        for rank in range(count):
            found = torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True)
            for key, value in alone.model.state_dict().items():
                torch.testing.assert_close(found[key], value, rtol=0, atol=1e-9, msg=f"{name} {key}")
        for file in ("metrics.jsonl", "diagnosis.jsonl", "trace.jsonl"):
            one, several = events(alone.run_dir, file), events(folder, file)
            for a, b in zip(one, several, strict=True):
                assert_close(without_times(a), without_times(b), (name, file))
        of_one, of_several = (read_inputs(RunRecord(one)) for one in (alone.run_dir, folder))
        assert of_one is not None
        assert of_several is not None
        assert of_one.means.keys() == of_several.means.keys()
        for m, mean in of_one.means.items():
            np.testing.assert_allclose(of_several.means[m], mean, rtol=0, atol=1e-9, err_msg=name)
        (entry := RunRecord(folder).result())["environment"] = None
        result = without_times(entry)
        expected = without_times({**alone.summary, "environment": None})
        for key in ("peak_memory_bytes", "parts"):
            del result[key], expected[key]
        assert_close(expected, result, (name, "result.json"))


def assert_close(one: Any, other: Any, what: object) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), what
        for key, value in one.items():
            assert_close(value, other[key], (what, key))
    elif isinstance(one, list):
        assert len(one) == len(other), what
        for a, b in zip(one, other, strict=True):
            assert_close(a, b, what)
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=1e-5, abs=1e-6), what
    else:
        assert one == other, what


def test_the_result_of_one_process(data: str, tmp_path: Path) -> None:
    assert_equal_runs(data, {"diagnose-relearn": RELEARN}, 2, tmp_path)


@pytest.mark.matrix
@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_method_has_the_result_of_one_process(data: str, count: int, tmp_path: Path) -> None:
    assert_equal_runs(data, EVERY, count, tmp_path)


@pytest.mark.matrix
@pytest.mark.parametrize("fusion", ["mmtm", "mult"])
def test_encoders_that_exchange_signals(
    fusion: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION", fusion)
    wanted = {"diagnose-relearn": RELEARN, "agm": {"method": "agm", "method_options": {"alpha": 5.0}}}
    if fusion == "mmtm":
        wanted["greedy"] = {"method": "greedy", "method_options": {"start_epoch": 0, "eps": 0.0}}
    assert_equal_runs(data, wanted, 2, tmp_path)


@pytest.mark.matrix
def test_other_diagnoses_and_what_follows_a_relearning(data: str, tmp_path: Path) -> None:
    def relearnt(**options: Any) -> dict[str, Any]:
        return {"method": "diagnose-relearn", "method_options": {"epochs": [1], "lam": 5.0, **options}}

    wanted = {
        "robust": relearnt(preset="robust"),
        "by-probe": relearnt(metric="linear-probe", assign="cross-fit"),
        "aftermath": relearnt(
            norm_stats="recalibrate", head_policy="refit", head_refit_steps=3, optimizer_state="scale"
        ),
        "blended": relearnt(head_policy="blend"),
        "traced": {**relearnt(), "trace": True},
        "sampled": {"diagnose_every": None, "epochs": 8},
    }
    assert_equal_runs(data, wanted, 2, tmp_path)


@pytest.mark.matrix
@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_other_tasks(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK", task)
    other = str(other_tasks.write(tmp_path / "set", task, SHAPES, count=160).path)
    assert_equal_runs(other, {"diagnose-relearn": RELEARN}, 2, tmp_path)


# Divided encoders ------------------------------------------------------------------------------------------

CLIPPED = {"clip_norm": 0.5, "optimizer": "adamw", "lr": 0.01}


@pytest.fixture
def sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide the encoders of runs in several processes."""
    monkeypatch.setenv("SHARD", "1")


@pytest.mark.usefixtures("sharded")
def test_divided_encoders_have_the_result_of_one_process(data: str, tmp_path: Path) -> None:
    """Weights, records, trace, and the diagnoses; and checkpoints, which one process can resume."""
    wanted: dict[str, dict[str, Any]] = {
        "joint": {"method": "joint", **CLIPPED},
        "diagnose-relearn": {**RELEARN, **CLIPPED, "trace": True},
    }
    assert_equal_runs(data, wanted, 2, tmp_path)
    for name, own in wanted.items():
        expected = torch.load(tmp_path / f"{name}-0.pt", weights_only=True)
        resumed = shared_runs.trained(tmp_path, f"{name}-copy", data, own, resume=True)
        for key, value in resumed.model.state_dict().items():
            torch.testing.assert_close(expected[key], value, rtol=0, atol=1e-9, msg=f"{name} {key}")


@pytest.mark.matrix
@pytest.mark.usefixtures("sharded")
def test_a_checkpoint_of_one_process_is_resumed_in_two(data: str, tmp_path: Path) -> None:
    own = {**RELEARN, **CLIPPED}
    stopped, name = tmp_path / "stopped", "diagnose-relearn"
    shared_runs.trained(stopped, name, data, own, on_epoch=shared_runs.copying(stopped, name))
    shutil.copytree(stopped / f"{name}-copy", tmp_path / name)
    assert_equal_runs(data, {name: own}, 2, tmp_path)


@pytest.mark.matrix
@pytest.mark.usefixtures("sharded")
@pytest.mark.parametrize("method", [name for name, kind in METHODS.items() if shards(kind)])
def test_every_method_that_shards_has_the_result_of_one_process(
    method: str, data: str, tmp_path: Path
) -> None:
    assert_equal_runs(data, {method: {**EVERY[method], **CLIPPED}}, 2, tmp_path)


@pytest.mark.matrix
@pytest.mark.usefixtures("sharded")
def test_what_follows_a_relearning(data: str, tmp_path: Path) -> None:
    def relearnt(**options: Any) -> dict[str, Any]:
        given = {"epochs": [1], "lam": 5.0, **options}
        return {"method": "diagnose-relearn", "method_options": given, **CLIPPED}

    wanted = {
        "aftermath": relearnt(
            norm_stats="recalibrate", head_policy="refit", head_refit_steps=3, optimizer_state="scale"
        ),
        "ema": relearnt(target="ema", head_policy="blend"),
        "robust": relearnt(preset="robust"),
    }
    assert_equal_runs(data, wanted, 2, tmp_path)


def test_each_process_has_half_of_each_encoder(tmp_path: Path) -> None:
    in_two_processes(half_of_each_encoder, tmp_path)


def test_one_process_has_nothing_to_share(data: str, tmp_path: Path) -> None:
    with pytest.raises(eq.UsageError, match="there is one; give devices=N"):
        eq.fit(data, shard=True, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def model_of(fusion: str) -> BalancedModel:
    shapes = dict.fromkeys(("audio", "video"), ((1, 8, 8), "image"))
    return build_model(shapes, 3, encoders="cnn", fusion=fusion)


@pytest.mark.parametrize(
    ("method", "options", "fusion", "said"),
    [
        ("ogm-ge", {}, "concat", "'ogm-ge' reads or changes the weights or gradients of encoders"),
        ("diagnose-relearn+ogm", {}, "concat", "'ogm' reads or changes"),
        ("joint", {"compile": "default"}, "concat", "compile does not work with shard"),
        ("joint", {"precision": "16-mixed"}, "concat", "precision='16-mixed' does not work with shard"),
        ("joint", {}, "mmtm", "exchange signals"),
    ],
)
def test_what_cannot_be_sharded_says_so(
    method: str, options: Any, fusion: str, said: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "process_count", lambda: 2)
    settings = Settings.from_options(data, **options)
    with pytest.raises(eq.EquipoiseError, match=said):
        check_sharding(settings, create_method(method, {}), model_of(fusion))
    check_sharding(Settings.from_options(data), create_method("joint", {}), model_of("concat"))
