"""The view of a grid: which runs are in progress, and when all have ended."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from equipoise.cli import grid_progress
from equipoise.cli.grid_progress import GridProgress
from equipoise.cli.views import grid_view
from equipoise.cli.views.grid_view import GridView, clock, duration
from equipoise.experiments.grid.jobs import Job, Outcome
from equipoise.training.record.locks import LOCK, locked
from equipoise.training.record.record import METRICS
from equipoise.training.settings import Settings


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list whose entry is the time."""
    held = [0.0]
    monkeypatch.setattr(grid_progress.time, "monotonic", lambda: held[0])
    return held


def job(folder: Path, method: str = "joint", cell: str = "", seed: int = 0, epochs: int = 10) -> Job:
    own = folder / f"{cell}{method}{seed}"
    own.mkdir()
    return Job(Settings.from_options("htad", method=method, seed=seed, epochs=epochs), own, folder, cell=cell)


def record(job: Job, epochs: int) -> None:
    (job.folder / METRICS).write_text('{"event": "start"}\n' + '{"event": "epoch"}\n' * epochs)


def test_a_run_is_in_progress_while_it_holds_its_lock(tmp_path: Path) -> None:
    """A lock that a killed process left does not count until the run takes it again."""
    one, two, three = (job(tmp_path, seed=seed) for seed in range(3))
    (two.folder / LOCK).touch()
    record(two, 4)
    progress = GridProgress([one, two, three], done=[three])
    progress.read()
    assert (progress.running, progress.ended) == ([], 1)
    time.sleep(0.01)
    with locked(one.folder), locked(two.folder):
        progress.read()
        assert [(run.job, run.resumed) for run in progress.running] == [(one, 0), (two, 4)]
    progress.end(Outcome(one))
    progress.end(Outcome(two, "no memory"))
    assert (progress.ended, progress.failed, progress.running) == (3, 1, [])


def test_the_end_is_estimated_by_method_and_workers(tmp_path: Path, now: list[float]) -> None:
    """joint takes 2 s an epoch and ogm 4 s; two runs are in progress at a time."""
    jobs = [job(tmp_path, method, seed=seed) for seed in range(3) for method in ("joint", "ogm")]
    progress = GridProgress(jobs)
    assert progress.seconds_left() is None
    with ExitStack() as locks:
        for one in jobs[:2]:
            locks.enter_context(locked(one.folder))
        progress.read()
        now[0] = 8.0
        record(jobs[0], 4)
        record(jobs[1], 2)
        progress.read()
        # Of joint 6 epochs are left here and 20 later, of ogm 8 and 20.
        assert progress.seconds_left() == pytest.approx((26 * 2 + 28 * 4) / 2)
        now[0] = 20.0
        assert progress.end(Outcome(jobs[0])) == 20.0
        now[0] = 40.0
        progress.end(Outcome(jobs[1]))
    assert progress.seconds_left() == pytest.approx((20 * 2 + 20 * 4) / 2)
    for one in jobs[2:5]:
        progress.end(Outcome(one, "failed"))
    assert progress.seconds_left() == pytest.approx(40)  # one run cannot be shared by two workers


def test_unmeasured_methods_take_the_mean_and_untrained_runs_nothing(
    tmp_path: Path, now: list[float]
) -> None:
    measured, other, ensemble = job(tmp_path), job(tmp_path, "ogm"), job(tmp_path, "ensemble")
    copied = Job(measured.settings, tmp_path / "copy", tmp_path, same_as=measured.folder)
    progress = GridProgress([measured, other, ensemble, copied])
    with locked(measured.folder):
        progress.read()
    now[0] = 30.0
    progress.end(Outcome(measured))
    assert progress.seconds_left() == pytest.approx(30)


def test_a_log_has_a_line_for_each_run_that_has_ended(tmp_path: Path) -> None:
    written = StringIO()
    jobs = [job(tmp_path, cell="lr=0.1"), job(tmp_path, "ogm", seed=7), job(tmp_path, seed=1)]
    with GridView(Console(file=written, width=40), "note: new") as view:
        view.planned(jobs, [jobs[2]])
        view.ended(Outcome(jobs[0]))
        view.ended(Outcome(jobs[1], "the loss\nis nan"))
    assert written.getvalue().splitlines() == [
        "note: new",
        "3 runs, 1 of them finished before",
        "2 of 3 runs: lr=0.1, joint, seed 0: 0 s",
        "3 of 3 runs, 1 failed: ogm, seed 7: failed: the loss is nan",
    ]


def test_a_log_says_now_and_then_what_is_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_view, "INTERVAL", 0.02)
    monkeypatch.setattr(grid_view, "LINE_EVERY", 0.0)
    written, one = StringIO(), job(tmp_path)
    record(one, 3)
    with GridView(Console(file=written)) as view:
        view.planned([one, job(tmp_path, seed=1)], [])
        with locked(one.folder):
            end = time.monotonic() + 2.0
            while "epoch" not in written.getvalue() and time.monotonic() < end:
                time.sleep(0.02)
    assert "0 of 2 runs: joint, seed 0: epoch 4 of 10" in written.getvalue().splitlines()


def test_a_terminal_shows_the_runs_in_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_view, "INTERVAL", 0.02)
    written, jobs = StringIO(), [job(tmp_path, seed=seed) for seed in range(10)]
    with ExitStack() as locks:
        console = Console(file=written, force_terminal=True, width=80, highlight=False)
        view = locks.enter_context(GridView(console))
        view.planned(jobs, [])
        for one in jobs:
            locks.enter_context(locked(one.folder))
        end = time.monotonic() + 2.0
        while "more" not in written.getvalue() and time.monotonic() < end:
            time.sleep(0.02)
        view.ended(Outcome(jobs[0], "no memory"))
    shown = written.getvalue()
    for expected in (
        "0 of 10 runs",
        "joint, seed 7: epoch 1 of 10",
        "and 2 more",
        "seed 0: failed: no memory",
    ):
        assert expected in shown
    assert "seed 8: epoch" not in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2, "10 s"), (94, "90 s"), (96, "2 min"), (59 * 60, "59 min"), (7260, "2 h 1 min"), (90000, "1 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_time_of_another_day_has_its_date() -> None:
    evening = datetime(2024, 2, 28, 22, 30)
    assert clock(3600, evening) == "23:30"
    assert clock(7200, evening) == "2024-02-29 00:30"
