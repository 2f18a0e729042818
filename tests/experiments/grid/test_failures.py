"""Failures during a comparison: the other runs continue, and failed runs can be repeated."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import deadly
import equipoise as eq
import synthetic
from equipoise.experiments.grid import executors
from equipoise.experiments.grid.executors import LocalExecutor
from equipoise.experiments.grid.jobs import Agenda, Bundle, Job, Outcome
from equipoise.experiments.grid.planning import expand
from equipoise.training.settings import Settings
from evidence import add_row
from lost_pools import Killed, LostPool

fit_module: Any = importlib.import_module("equipoise.training.fit")  # the package exports a function fit
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 32, "diagnose_every": 0, "workers": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(synthetic.write(tmp_path / "data").path)


def change_split(folder: Path) -> None:
    """Write the same samples with other splits into the same folder."""
    inputs, target = synthetic.samples(synthetic.VECTORS, 150)
    split = ["test"] * 50 + ["val"] * 30 + ["train"] * 70
    eq.write_dataset(folder, inputs, target, split=split, overwrite=True)


def test_parts_of_other_data_are_not_used(folder: Path, tmp_path: Path) -> None:
    eq.fit(folder, "umt", out=tmp_path / "run", epochs=1, diagnose_every=0)
    for path in (tmp_path / "run").iterdir():
        if path.is_file() and path.name != "config.yaml":
            path.unlink()  # as if interrupted after its parts
    change_split(folder)
    with pytest.raises(eq.RunFolderError, match="holds a finished run on other data"):
        eq.fit(folder, "umt", out=tmp_path / "run", epochs=1, diagnose_every=0, resume=True)


def test_a_finished_run_of_other_data_is_not_returned(folder: Path, tmp_path: Path) -> None:
    eq.fit(folder, out=tmp_path / "run", epochs=1, diagnose_every=0)
    change_split(folder)
    with pytest.raises(eq.RunFolderError, match="split_fingerprint differ"):
        eq.fit(folder, out=tmp_path / "run", epochs=1, diagnose_every=0, resume=True)


def test_a_comparison_does_not_mix_runs_of_other_data(folder: Path, tmp_path: Path) -> None:
    methods = ["joint", "ensemble"]
    eq.compare(folder, methods, seeds=1, out=tmp_path / "out", **QUICK)
    for name in ("joint", "ensemble"):  # only the runs that others build on are left
        shutil.rmtree(tmp_path / "out" / "runs" / f"{name}-seed0")
    change_split(folder)
    with pytest.raises(eq.RunFolderError, match="on other data"):
        eq.compare(folder, methods, seeds=1, out=tmp_path / "out", resume=True, **QUICK)


@pytest.mark.parametrize("way", ["resume", "overwrite"])
def test_a_run_that_failed_before_its_start_can_be_repeated(
    folder: Path, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = fit_module.prepare_data

    def fail(settings: Settings) -> Any:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "prepare_data", fail)
        table = eq.compare(folder, ["joint"], seeds=1, out=tmp_path / "out", **QUICK)
    assert list(table["n"]) == [0]
    error = tmp_path / "out" / "runs" / "joint-seed0" / "error.txt"
    assert "no room" in error.read_text()
    assert fit_module.prepare_data is original
    table = eq.compare(folder, ["joint"], seeds=1, out=tmp_path / "out", **{way: True}, **QUICK)
    assert list(table["n"]) == [1]
    assert not error.exists()


def test_the_traceback_of_an_unrequested_part_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = fit_module.Training.fit

    def fail(self: Any) -> None:
        if self.method.name == "unimodal":
            raise ValueError("a bug in the encoder")
        original(self)

    monkeypatch.setattr(fit_module.Training, "fit", fail)
    out = tmp_path / "out"
    eq.compare(folder, ["joint", "umt"], seeds=1, out=out, **QUICK)
    results = pd.read_csv(out / "results.csv").set_index("method")
    assert results.loc["joint", "status"] == "ok"
    assert "the run unimodal-audio-seed0, which it builds on, failed" in results.loc["umt", "status"]
    assert "a bug in the encoder" in (out / "runs" / "unimodal-audio-seed0" / "error.txt").read_text()


def test_a_dying_process_fails_no_other_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "execute", deadly.execute)
    settings = Settings.from_options("htad")
    names = ["a", "b", "deadly", "c", "d", "e", "built-on-it"]
    jobs = [Job(settings, Path(name), Path("runs")) for name in names[:-1]]
    jobs.append(Job(settings, Path(names[-1]), Path("runs"), after=(Path("deadly"),)))
    with pytest.warns(eq.EquipoiseWarning, match="the exit code 9; what was in progress is tried again"):
        outcomes = {outcome.job.folder.name: outcome.error for outcome in LocalExecutor(2).map(jobs)}
    assert outcomes.keys() == set(names)
    assert {name for name, error in outcomes.items() if error} == {"deadly", "built-on-it"}
    assert outcomes["deadly"] == "the worker process ended with the exit code 9"
    assert Agenda([]).ready() == []


def test_a_pool_lost_between_two_jobs_loses_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(bundle: Bundle) -> list[Outcome]:
        if bundle[0].folder.name == "deadly":
            raise Killed
        return [Outcome(job) for job in bundle]

    monkeypatch.setattr(executors, "Workers", LostPool)
    monkeypatch.setattr(executors, "execute", execute)
    settings = Settings.from_options("htad")
    jobs = [Job(settings, Path(name), Path("runs")) for name in ("a", "deadly", "b", "c")]
    with pytest.warns(eq.EquipoiseWarning, match="what was in progress is tried again"):
        outcomes = {outcome.job.folder.name: outcome.error for outcome in LocalExecutor(4).map(jobs)}
    assert outcomes == dict.fromkeys("abc") | {"deadly": "the worker process ended with the exit code 9"}


@pytest.mark.matrix
def test_a_process_that_the_kernel_kills_probably_had_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "execute", deadly.execute)
    settings = Settings.from_options("htad")
    jobs = [Job(settings, Path(name), Path("runs")) for name in ("a", "killed", "b")]
    with pytest.warns(eq.EquipoiseWarning, match=r"was killed \(SIGKILL\).*killed"):
        outcomes = {outcome.job.folder.name: outcome.error for outcome in LocalExecutor(2).map(jobs)}
    assert (outcomes["a"], outcomes["b"]) == (None, None)
    said = outcomes["killed"] or ""
    assert said.startswith(
        "the worker process was killed (SIGKILL), probably by the system for want of memory"
    )
    assert "use fewer processes (--workers)" in said
    add_row(
        part="adversity", what="compare", moment="worker killed", said=said, kept="other runs", went_on=True
    )


def test_an_interrupt_of_a_worker_process_ends_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers may be interrupted before this process; their jobs must not be started again."""
    monkeypatch.setattr(executors, "execute", deadly.execute)
    settings = Settings.from_options("htad")
    jobs = [Job(settings, Path(name), Path("runs")) for name in ("a", "interrupted", "b")]
    with pytest.raises(KeyboardInterrupt):
        list(LocalExecutor(2).map(jobs))


def test_all_excludes_methods_that_cannot_be_built(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unsized.py").write_text(UNSIZED)
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_options(str(folder), model="unsized:build", epochs=90)
    plan = expand(settings, ["all"], {}, 0)
    assert "joint" in plan.parts
    assert "out_features" in plan.left_out["multi-loss"]
    with pytest.raises(eq.ModelError, match="out_features"):
        eq.compare(folder, ["joint", "multi-loss"], seeds=1, model="unsized:build", **QUICK)


UNSIZED = """
import torch
from torch import nn
from equipoise.models import BalancedModel


class Unsized(BalancedModel):
    def __init__(self, shapes, classes):
        super().__init__()
        self.modalities, self.num_outputs = tuple(shapes), classes
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(shape[0], 4)) for shape, _ in shapes.values())
        self.joint = nn.Linear(4 * len(shapes), classes)

    def encode(self, batch, only=None):
        inputs = getattr(batch, "inputs", batch)
        names = [m for m in self.modalities if only is None or m in only]
        return {m: self.encoder_module(m)(inputs[m]) for m in names}

    def fuse(self, z):
        return self.joint(torch.cat([z[m] for m in self.modalities], dim=1))

    def encoder_module(self, modality):
        return self.nets[self.modalities.index(modality)]


def build(shapes, classes):
    return Unsized(shapes, classes)
"""
