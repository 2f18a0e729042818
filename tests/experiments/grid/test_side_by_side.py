"""Seeds of a method in common steps: which runs, and the results of a comparison."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import equipoise as eq
from equipoise.experiments.grid import jobs as jobs_module
from equipoise.experiments.grid.executors import shares
from equipoise.experiments.grid.jobs import Job, bundles
from equipoise.training.settings import Settings
from equipoise.types import UsageError

TIMES = ["train_seconds", "method_seconds", "peak_memory_bytes", "run_dir"]


def jobs(*methods: str, seeds: int = 4) -> list[Job]:
    shared = Settings.from_options("htad")
    return [
        Job(shared.with_method(method, {}, seed), Path(f"{method}-{seed}"), Path("runs"))
        for seed in range(seeds)
        for method in methods
    ]


def test_seeds_of_a_method_are_in_one_bundle() -> None:
    found = bundles(jobs("joint", "mla", "unimodal:audio", "ogm+multi-loss"), 3)
    sizes = {(one[0].settings.method, len(one), tuple(job.settings.seed for job in one)) for one in found}
    assert {("joint", 3, (0, 1, 2)), ("joint", 1, (3,)), ("unimodal:audio", 3, (0, 1, 2))} <= sizes
    # These take their own steps.
    alone = [one for one in found if one[0].settings.method in ("mla", "ogm+multi-loss")]
    assert [len(one) for one in alone] == [1] * 8
    assert sum(len(one) for one in found) == 16
    assert [len(one) for one in bundles(jobs("joint"), 1)] == [1] * 4


def test_runs_that_differ_in_more_than_the_seed_are_apart() -> None:
    first, second = jobs("joint", seeds=2)
    other = Settings.from_options("htad", lr=0.2).with_method("joint", {}, 1)
    assert len(bundles([first, second], 2)) == 1
    assert len(bundles([first, Job(other, second.folder, Path("runs"))], 2)) == 2
    assert len(bundles([first, Job(second.settings, second.folder, Path("elsewhere"))], 2)) == 2
    copied = Job(second.settings, second.folder, Path("runs"), same_as=Path("other"))
    assert len(bundles([first, copied], 2)) == 2


def test_no_worker_is_left_without_a_bundle() -> None:
    assert [len(one) for one in shares(jobs("joint", seeds=6), 2, 10)] == [3, 3]
    assert [len(one) for one in shares(jobs("joint", seeds=6), 1, 4)] == [4, 2]
    assert shares([], 2, 10) == []


def test_a_comparison_has_the_same_results(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods, sizes = ["joint", "diagnose-relearn", "mla"], list[int]()
    inner = jobs_module.run_together

    def noting(wanted: object) -> object:
        sizes.append(len(wanted))  # type: ignore[arg-type]
        return inner(wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs_module, "run_together", noting)
    options = {"seeds": 3, "epochs": 2, "batch_size": 32, "workers": 1}
    options["method_options"] = {"diagnose-relearn": {"epochs": [0]}}
    eq.compare(data, methods, out=tmp_path / "together", side_by_side=3, **options)
    assert sizes == [3, 3]
    eq.compare(data, methods, out=tmp_path / "alone", **options)
    assert sizes == [3, 3]
    together, alone = (pd.read_csv(tmp_path / name / "results.csv") for name in ("together", "alone"))
    kept = [column for column in alone if column not in TIMES]
    pd.testing.assert_frame_equal(together[kept], alone[kept], check_exact=True)
    assert len(kept) > 10


def test_a_wrong_number_is_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="side_by_side is 0; expected a whole number of at least 1"):
        eq.compare(data, "joint", seeds=2, out=tmp_path / "out", side_by_side=0)
    assert not (tmp_path / "out").exists()
