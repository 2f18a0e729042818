"""Grids: several comparisons by one pool of workers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import equipoise as eq
from equipoise.experiments.compare.comparison import Comparison, read_comparison
from equipoise.experiments.grid import grid as grid_module
from equipoise.experiments.grid import jobs as jobs_module
from equipoise.experiments.grid.cell import Cell
from equipoise.experiments.grid.executors import LocalExecutor
from equipoise.experiments.grid.grid import run_grid
from equipoise.experiments.grid.jobs import Job, Outcome
from equipoise.training.settings import Settings


def cell(name: str, data: str, *methods: str, lr: float = 0.05, **options: Any) -> Cell:
    settings = Settings.from_options(data, epochs=1, lr=lr, batch_size=32, diagnose_every=0)
    return Cell(name, settings, methods, [0], **options)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grid") / "out"


@pytest.fixture(scope="module")
def cells(data: str) -> list[Cell]:
    return [cell("good", data, "joint", "ogm"), cell("bad", data, "joint", lr=1e20)]


@pytest.fixture(scope="module")
def found(cells: list[Cell], out: Path) -> dict[str, Comparison]:
    return run_grid(cells, out, workers=1)


def test_each_cell_is_a_comparison_and_a_failure_stays_in_its_own(
    found: dict[str, Comparison], out: Path
) -> None:
    assert list(found) == ["good", "bad"]
    for name, comparison in found.items():
        assert comparison.folder == out / name
        assert (out / name / "results.csv").read_text() == comparison.results.to_csv(index=False)
        assert read_comparison(out / name).failed == comparison.failed
    assert list(found["good"].results["status"]) == ["ok", "ok"]
    assert "the training loss is nan" in found["bad"].results.loc[0, "status"]
    assert [comparison.failed for comparison in found.values()] == [0, 1]


def test_resuming_repeats_failed_runs_only(
    found: dict[str, Comparison], cells: list[Cell], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[Job]] = []

    class Noting(LocalExecutor):
        def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
            given.append(list(jobs))
            yield from super().map(given[-1])

    monkeypatch.setattr(grid_module, "make_executor", lambda *_: Noting(1))
    again = run_grid(cells, out, resume=True)
    assert [[(job.cell, job.settings.method) for job in jobs] for jobs in given] == [[("bad", "joint")]]
    pd.testing.assert_frame_equal(again["good"].results, found["good"].results)


def test_runs_of_all_cells_go_through_one_pool(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell is written when its own last run has ended, whatever the order in which runs end."""
    seen: list[tuple[str, bool]] = []

    class Backward:
        def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
            for job in reversed(list(jobs)):
                yield Outcome(job, "not tried")
                seen.append((job.cell, (tmp_path / job.cell / "results.csv").is_file()))

    monkeypatch.setattr(grid_module, "make_executor", lambda *_: Backward())
    run_grid([cell("one", data, "joint", "ogm"), cell("two", data, "joint")], tmp_path)
    assert seen == [("two", True), ("one", False), ("one", True)]


def test_a_warning_of_several_cells_is_issued_once(data: str, tmp_path: Path) -> None:
    cells = [cell(name, data, "diagnose-relearn", lr=lr) for name, lr in (("one", 0.1), ("two", 0.2))]
    with (
        pytest.warns(eq.EquipoiseWarning, match="never takes effect") as issued,
        pytest.raises(eq.UsageError),
    ):
        run_grid([*cells, cell("three", data, "join")], tmp_path / "out")
    assert len(issued) == 1


def test_wrong_use_is_refused_before_anything_is_written(data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(eq.UsageError, match="no cell"):
        run_grid([], out)
    with pytest.raises(eq.UsageError, match="two cells of the grid are named 'one'"):
        run_grid([cell("one", data, "joint"), cell("one", data, "ogm")], out)
    with pytest.raises(eq.UsageError, match="two: unknown method 'join'"):
        run_grid([cell("one", data, "joint"), cell("two", data, "join")], out)
    assert not out.exists()


def test_equal_runs_are_computed_once(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cells differ in an option of ogm only; what they hold equals the same comparisons by themselves."""
    cells = [
        cell(str(alpha), data, "joint", "ensemble", "ogm", method_options={"ogm": {"alpha": alpha}})
        for alpha in (0.1, 0.9)
    ]
    computed: list[str] = []
    original = jobs_module.run

    def noting(settings: Settings, *arguments: Any, **options: Any) -> Any:
        computed.append(settings.method)
        return original(settings, *arguments, **options)

    monkeypatch.setattr(jobs_module, "run", noting)
    found = run_grid(cells, tmp_path / "grid", workers=1)
    assert sorted(computed) == ["ensemble", "joint", "ogm", "ogm", "unimodal:audio", "unimodal:video"]
    alone = run_grid([replace(cells[1], name="")], tmp_path / "alone", workers=1)[""]
    seconds = ["train_seconds", "method_seconds"]
    assert found["0.9"].results.drop(columns=seconds).equals(alone.results.drop(columns=seconds))
    runs = tmp_path / "grid" / "0.9" / "runs"
    for name in ("joint-seed0", "ensemble-seed0"):
        weights = [folder / name / "model.safetensors" for folder in (runs, alone.folder / "runs")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
        assert eq.load_run(runs / name).test == eq.load_run(alone.folder / "runs" / name).test
    parts = json.loads((runs / "ensemble-seed0" / "result.json").read_text())["parts"]
    assert parts["unimodal:audio"] == str(runs / "unimodal-audio-seed0")


def test_a_run_that_fails_fails_in_all_cells_that_need_it(data: str, tmp_path: Path) -> None:
    cells = [cell(name, data, "joint", lr=1e20) for name in ("one", "two")]
    one, two = (found.results.loc[0, "status"] for found in run_grid(cells, tmp_path, workers=1).values())
    assert one == two
    assert one.startswith("failed: the training loss is")


def test_what_a_killed_process_left_is_no_obstacle_and_is_removed(data: str, tmp_path: Path) -> None:
    """It was killed while it wrote the first file of a comparison or of a run, or after a run's result."""
    cells = [cell("one", data, "joint"), cell("two", data, "joint", lr=0.1)]
    one, two = tmp_path / "one", tmp_path / "two"
    run_grid(cells[:1], tmp_path, workers=1)
    run = one / "runs" / "joint-seed0"
    weights = (run / "model.safetensors").read_bytes()
    for path in run.iterdir():
        path.unlink()
    (two / "runs").mkdir(parents=True)
    for partial in (run, two):
        (partial / ".config.yaml.7.part").touch()
    run_grid(cells, tmp_path, resume=True, workers=1)
    assert (run / "model.safetensors").read_bytes() == weights
    for left in (run / "checkpoint.pt", run / ".lock", run / ".a.7.part", one / ".a.7.part"):
        left.touch()
    (one / "floors" / ".a.7.part").touch()
    run_grid(cells, tmp_path, resume=True, workers=1)
    names = [path.name for path in tmp_path.rglob("*") if path.parent.name != "floors"]
    assert not [name for name in names if name.endswith((".part", ".pt", ".lock"))]
    assert not list(one.glob("floors/*.part"))
