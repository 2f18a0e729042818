"""Which runs belong to a comparison, and in which order they may start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import equipoise as eq
import synthetic
from equipoise.api import cells_to_compare
from equipoise.experiments.grid.jobs import Agenda, Job, Outcome
from equipoise.experiments.grid.planning import DEFAULT_METHODS, expand
from equipoise.methods import METHODS
from equipoise.training.settings import Settings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "toy"
    synthetic.write(folder)
    return str(folder)


def job(name: str, *after: str) -> Job:
    settings = Settings.from_options("htad")
    return Job(settings, Path(name), Path("runs"), after=tuple(Path(other) for other in after))


def names(jobs: list[Job]) -> list[str]:
    return [str(one.folder) for one in jobs]


def test_a_job_waits_for_all_its_dependencies() -> None:
    jobs = [
        job("top", "left", "right"),
        job("left", "root"),
        job("right"),
        job("root"),
        job("x", "done"),
    ]
    agenda = Agenda(jobs)
    assert names(agenda.ready()) == ["right", "root", "x"]  # others were finished before
    assert agenda.ready() == []
    agenda.ended(Outcome(jobs[2]))
    assert agenda.ready() == []
    agenda.ended(Outcome(jobs[3]))
    assert names(agenda.ready()) == ["left"]
    assert [o.job for o in agenda.ended(Outcome(jobs[1]))] == [jobs[1]]
    assert names(agenda.ready()) == ["top"]


def test_dependents_of_a_failed_job_fail_too() -> None:
    jobs = [job("root"), job("middle", "root"), job("top", "middle"), job("other")]
    agenda = Agenda(jobs)
    assert names(agenda.ready()) == ["root", "other"]
    ended = agenda.ended(Outcome(jobs[0], "no memory"))
    assert [o.job for o in ended] == jobs[:3]
    assert "the run root, which it builds on, failed: no memory" in (ended[1].error or "")
    assert "middle" in (ended[2].error or "")
    assert agenda.ready() == []


def test_unrequested_parts_are_runs_but_not_rows(data: str, tmp_path: Path) -> None:
    table = eq.compare(data, ["joint", "ensemble"], seeds=1, epochs=1, workers=1, out=tmp_path / "out")
    assert list(table.index) == ["joint", "ensemble"]
    runs = sorted(path.name for path in (tmp_path / "out" / "runs").iterdir())
    assert runs == ["ensemble-seed0", "joint-seed0", "unimodal-audio-seed0", "unimodal-video-seed0"]


def test_all_excludes_methods_that_cannot_train_the_model(data: str) -> None:
    plan = expand(Settings.from_options(data, epochs=90, fusion="average"), ["all"], {}, 0)
    assert {"joint", "unimodal:audio", "unimodal:video", "ensemble", "multi-loss"} <= plan.parts.keys()
    assert "additive_head" in plan.left_out["ogm"]
    assert "choose the fusion" in plan.left_out["ogm"]
    with pytest.raises(eq.UsageError, match="needs a model with additive_head"):
        expand(Settings.from_options(data, fusion="average"), ["all", "ogm"], {}, 0)
    everything = expand(Settings.from_options(data, epochs=90), ["all"], {}, 0)
    found = {name.partition(":")[0] for name in everything.parts} | everything.left_out.keys()
    assert found == set(METHODS)


def test_methods_compared_by_default(data: str) -> None:
    plan = expand(Settings.from_options(data, epochs=90), DEFAULT_METHODS, {}, 0)
    assert next(iter(plan.parts)) == "joint"
    references = {"joint", "unimodal", "ensemble", "multi-loss", "pretrain-frozen", "pretrain-finetune"}
    references.add("short-ensemble")
    assert {name.partition(":")[0] for name in plan.parts} == references | {"diagnose-relearn"}
    (cell,) = cells_to_compare([data], {}, None, [0], None, None, tuned=None, rank_anyway=False)
    assert cell.methods == DEFAULT_METHODS


def test_a_comparison_without_its_references_reports_them(data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    eq.compare(data, ["joint", "multi-loss+ogm"], seeds=1, epochs=3, workers=1, out=out)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["missing_references"] == [
        "ensemble",
        "pretrain-finetune",
        "pretrain-frozen",
        "short-ensemble",
        "unimodal",
    ]
    assert "a gain over joint training alone proves little" in (out / "report.html").read_text()


def test_an_option_of_an_uncompared_method_is_an_error(data: str) -> None:
    with pytest.raises(eq.UsageError, match="an option of 'ogm' is set, which is not compared"):
        expand(Settings.from_options(data), ["joint"], {"ogm": {"alpha": 0.1}}, 0)
    with pytest.raises(eq.UnknownNameError, match="unknown method 'ogn'"):
        expand(Settings.from_options(data), ["joint"], {"ogn": {"alpha": 0.1}}, 0)
