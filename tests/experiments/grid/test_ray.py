"""Grids on a Ray cluster; the tests with Ray itself start a local one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import equipoise as eq
from equipoise.experiments.grid import on_ray
from equipoise.experiments.grid.cell import Cell
from equipoise.experiments.grid.executors import make_executor
from equipoise.experiments.grid.grid import run_grid
from equipoise.experiments.grid.jobs import Job, Outcome
from equipoise.experiments.grid.on_ray import RayExecutor
from equipoise.training.settings import Settings

TIMED = ["train_seconds", "method_seconds"]
MODEL = """
from torch import nn
from equipoise.models import ConcatFusion, MultimodalModel

def build(shapes, num_classes):
    encoders = {m: nn.Linear(shape[0], 4) for m, (shape, kind) in shapes.items()}
    return MultimodalModel(encoders, ConcatFusion(dict.fromkeys(shapes, 4), num_classes))
"""


def test_without_ray_the_error_names_it() -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(eq.MissingExtraError, match=r"pip install 'equipoise\[ray\]'"):
            make_executor("ray")
    else:
        assert isinstance(make_executor("ray"), RayExecutor)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Start Ray with two CPUs, in another folder than that of the tests."""
    found = pytest.importorskip("ray")
    found.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield found
    found.shutdown()


def cells(data: str, **options: Any) -> list[Cell]:
    """Return two cells: the first with parts and a copied run, the second with one that fails."""
    settings = {"epochs": 2, "batch_size": 32, "diagnose_every": 0, **options}
    made = [Settings.from_options(data, lr=lr, **settings) for lr in (0.05, 1e20)]
    return [
        Cell("parts", made[0], ["joint", "ensemble"], [0, 1]),
        Cell("more", made[0], ["joint"], [0]),
        Cell("fails", made[1], ["joint"], [0]),
    ]


def test_a_grid_on_ray_equals_one_in_this_process(
    ray: Any, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output folder and model are relative to the current folder, which is not that of the workers."""
    (tmp_path / "mine_on_ray.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    found = {
        executor: run_grid(
            cells(data, model="mine_on_ray:build"), Path(executor), executor=executor, workers=1
        )
        for executor in ("local", "ray")
    }
    for name, own in found["local"].items():
        other = found["ray"][name].results
        assert other.drop(columns=TIMED).equals(own.results.drop(columns=TIMED)), name
    assert [comparison.failed for comparison in found["ray"].values()] == [0, 0, 1]
    weights = sorted(Path("local").rglob("model.safetensors"))
    assert len(weights) == 9
    for path in weights:
        assert path.read_bytes() == (Path("ray") / path.relative_to("local")).read_bytes()
    again = run_grid(cells(data, model="mine_on_ray:build"), Path("ray"), executor="ray", resume=True)
    assert again["parts"].results.equals(found["ray"]["parts"].results)


def test_workers_bound_the_runs_at_a_time(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs meet if they run at a time, as they do by default on two CPUs, and not with one worker."""

    def meet(folder: str, job: Job) -> Outcome:
        job.folder.touch()
        met, end = False, time.monotonic() + (30 if job.cell == "two" else 1)
        while not met and time.monotonic() < end:
            time.sleep(0.01)
            met = len(list(job.parts_folder.iterdir())) == 2
        if job.cell == "one":
            job.folder.unlink()
        return Outcome(job, "met" if met else None)

    monkeypatch.setattr(on_ray, "_execute_in", meet)
    for workers, cell, expected in ((None, "two", "met"), (1, "one", None)):
        folder = tmp_path / cell
        folder.mkdir()
        jobs = [Job(Settings.from_options("htad"), folder / name, folder, cell=cell) for name in "ab"]
        assert [outcome.error for outcome in RayExecutor(workers).map(jobs)] == [expected] * 2


def test_a_worker_that_dies_fails_its_run_only(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def deadly(folder: str, job: Job) -> Outcome:
        if job.folder.name == "deadly":
            os._exit(9)
        return Outcome(job)

    monkeypatch.setattr(on_ray, "_execute_in", deadly)
    settings = Settings.from_options("htad")
    jobs = [Job(settings, Path(name), Path("runs")) for name in ("a", "deadly", "b")]
    jobs.append(Job(settings, Path("built-on-it"), Path("runs"), after=(Path("deadly"),)))
    outcomes = {outcome.job.folder.name: outcome.error for outcome in RayExecutor().map(jobs)}
    assert {name for name, error in outcomes.items() if error} == {"deadly", "built-on-it"}
    assert len(outcomes) == 4
    assert "the worker ended" in (outcomes["deadly"] or "")
