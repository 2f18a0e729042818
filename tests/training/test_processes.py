"""Runs in several processes: how they are started, what they say, and what is left when one is lost."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import equipoise as eq
import shared_runs
from equipoise.training.processes import group, launch, watch
from equipoise.training.processes.group import Arrangement, arranged, refuse_several
from equipoise.types import BrokenPackageError, DataError, TrainingError, UnknownNameError, UsageError

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
SRUN = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "6", "SLURM_PROCID": "2", "SLURM_NNODES": "3"}
SRUN |= {"SLURM_NTASKS_PER_NODE": "2", "SLURM_NODEID": "1", "SLURM_LOCALID": "0"}


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_processes_are_those_that_are_asked_for_or_have_been_started(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arranged(None, None, "cpu") == Arrangement()
    assert arranged(4, 2, "cpu") == Arrangement(4, 2)
    with monkeypatch.context() as patch:
        set_environment(patch, TORCHRUN)
        assert arranged(None, None, "cpu") == arranged(4, 2, "cpu") == Arrangement(4, 2, started=True)
        assert not group.speaks(None)
        with pytest.raises(UsageError, match="devices is 2, but 4 processes have been started on each of 2"):
            arranged(2, None, "cpu")
        with pytest.raises(UsageError, match="has been started in 8 processes"):
            refuse_several()
        patch.setenv("WORLD_SIZE", "1")
        assert arranged(None, None, "cpu") == Arrangement()
        refuse_several()
    with monkeypatch.context() as patch:
        set_environment(patch, SRUN)
        assert arranged(None, None, "cpu") == Arrangement(2, 3, started=True)
        assert not group.speaks(None)
        patch.delenv("SLURM_NTASKS_PER_NODE")
        with pytest.raises(UsageError, match="cannot use the processes of SLURM: .*--ntasks-per-node"):
            arranged(None, None, "cpu")
        patch.delenv("SLURM_STEP_ID")  # a batch script that does not use srun
        assert arranged(None, None, "cpu") == Arrangement()


def test_impossible_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="devices is 0; expected at least 1"):
        arranged(0, None, "cpu")
    with pytest.raises(UsageError, match="nodes is -1"):
        arranged(None, -1, "cpu")
    with pytest.raises(UsageError, match="cannot share an mps device"):
        arranged(2, None, "mps")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="devices is 2, and torch finds 1 cuda devices"):
        arranged(2, None, "cuda")


def test_each_machine_has_to_know_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "node1")
    with pytest.raises(UsageError, match="MASTER_PORT, NODE_RANK is not in the environment"):
        launch._environment(Arrangement(2, 2))
    set_environment(monkeypatch, {"MASTER_PORT": "1", "NODE_RANK": "1"})
    found = launch._environment(Arrangement(2, 2))
    assert (found["WORLD_SIZE"], found["LOCAL_WORLD_SIZE"], found["GROUP_RANK"]) == ("4", "2", "1")
    assert found["MASTER_ADDR"] == "node1"
    assert not group.speaks(2)
    assert group.speaks(None)


def test_the_error_of_a_process_is_raised_where_it_was_started(tmp_path: Path) -> None:
    launch.report(tmp_path, 1, DataError("no sample."), "")
    with pytest.raises(DataError, match=r"^no sample\.$"):
        launch._explain({0: None, 1: 1}, tmp_path, 2)
    with pytest.raises(
        TrainingError, match="process 0 of 2 .* by the signal SIGKILL; continue with --resume"
    ):
        launch._explain({0: -9, 1: 1}, tmp_path, 2)  # the other one failed because of that
    launch.report(tmp_path, 0, UnknownNameError("method", "x", ["y"]), "")
    with pytest.raises(UsageError, match="unknown method 'x'"):
        launch._explain({0: 2, 1: None}, tmp_path, 2)
    launch.report(tmp_path, 0, BrokenPackageError("torchao", "fp8", "no module x"), "")
    with pytest.raises(UsageError, match="fp8 needs the package 'torchao', which is installed"):
        launch._explain({0: 2, 1: None}, tmp_path, 2)
    launch.report(tmp_path, 0, ZeroDivisionError("by zero"), "Traceback ...")
    with pytest.raises(TrainingError, match="a process failed: ZeroDivisionError: by zero") as found:
        launch._explain({0: 1, 1: None}, tmp_path, 2)
    assert found.value.__notes__ == ["Traceback ..."]
    with pytest.raises(TrainingError, match="process 2 ended with code 7 of 3 processes"):
        launch._explain({2: 7}, tmp_path, 3)


def test_it_does_not_wait_forever_for_processes_that_do_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    over = threading.Event()
    monkeypatch.setattr(watch, "MEETING", 0.01)
    monkeypatch.setattr(os, "_exit", lambda code: (codes.append(code), over.set()))
    with watch.meeting(4):
        assert over.wait(30)
    assert codes == [1]
    assert "4 processes were to train together, and not all have started" in capsys.readouterr().err
    monkeypatch.setattr(watch, "MEETING", 600.0)
    before = threading.active_count()
    with watch.meeting(4):
        assert threading.active_count() == before + 1
    assert codes == [1]


@pytest.mark.usefixtures("float64")
def test_a_lost_process_ends_the_run_which_another_number_of_them_resumes(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {**shared_runs.GIVEN, "epochs": 30, "diagnose_every": 10, "method": "ogm-ge"}
    monkeypatch.setenv("DOUBLE", "1")
    seen: list[int] = []

    def lose_one(epoch: int, _: dict[str, float]) -> None:
        seen.append(epoch)
        if epoch == 3:
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            workers = [int(pid) for pid in children if "equipoise.training.worker" in command(pid)]
            assert len(workers) == 2
            os.kill(workers[1], signal.SIGKILL)

    folder = tmp_path / "run"
    with pytest.raises(TrainingError, match="process 1 of 2 .* SIGKILL; continue with --resume"):
        eq.fit(data, **options, out=folder, devices=2, on_epoch=lose_one)
    assert seen == list(range(len(seen)))  # in order; the others go on until they wait for the lost one
    assert not (folder / "result.json").exists()
    resumed, alone = eq.fit(data, **options, out=folder, resume=True), eq.fit(data, **options)
    assert resumed.summary["forward_samples"] == alone.summary["forward_samples"]
    assert resumed.summary["order_fingerprint"] == alone.summary["order_fingerprint"]
    assert resumed.summary["environment"]["processes"] == 1
    for key, value in alone.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[key], value, rtol=0, atol=1e-9)
    losses = [
        [
            json.loads(line).get("val_loss")
            for line in (one.run_dir / "metrics.jsonl").read_text().splitlines()
        ]
        for one in (resumed, alone)
    ]
    assert losses[0][1:-1] == pytest.approx(losses[1][1:-1], abs=1e-6)


def command(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
