"""Whole commands with several labels and with regression: compare, report, diagnose, and refusals."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, r2_score

import equipoise as eq
import other_tasks
from equipoise.cli import main
from equipoise.experiments.examine.contribution_of_run import contribution_of_run
from equipoise.tasks import TASKS
from equipoise.training.record.predictions import read_predictions
from equipoise.types import EquipoiseWarning, UsageError

KINDS = ("multilabel", "regression")
METHODS = ("joint", "diagnose-relearn", "multi-loss")


def run(*words: str) -> int:
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        warnings.simplefilter("ignore", EquipoiseWarning)
        main(list(words))
    return int(ended.value.code or 0)


@pytest.fixture(scope="module", params=KINDS)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def data(task: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(other_tasks.write(tmp_path_factory.mktemp("data") / task, task, count=120).path)


@pytest.fixture(scope="module")
def compared(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "out"
    words = ["compare", "--data", data, "--methods", *METHODS, "--seeds", "3", "--epochs", "1"]
    # One epoch leaves them below the floor.
    assert run(*words, "--workers", "1", "--rank-anyway", "--out", str(out)) == 0
    return out


def said(page: Path) -> str:
    """Return the text of a page."""
    text = re.sub(r"<(script|style).*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"<[^>]+>", " ", text)


def test_results_contain_the_figures_of_the_task(task: str, compared: Path) -> None:
    rows = pd.read_csv(compared / "results.csv")
    assert len(rows) == 9
    for pinned in ("val_accuracy", "test_accuracy"):
        assert rows[pinned].isna().all()
    assert rows["test_macro_f1"].isna().all() == (task == "regression")
    for name in TASKS[task].figures:
        assert rows[f"test_{name}"].notna().all()
        assert rows[f"val_{name}"].notna().all()
    score = {"multilabel": average_precision_score, "regression": r2_score}[task]
    for row in rows.to_dict("records"):
        held = read_predictions(compared / "runs" / f"{row['method']}-seed{row['seed']}")["test"]  # type: ignore[index]
        given = held.probability if task == "multilabel" else held.predicted
        assert row[f"test_{TASKS[task].main}"] == pytest.approx(score(held.target, given), abs=1e-5)


def test_methods_are_ranked_by_the_main_figure(task: str, compared: Path) -> None:
    summary = json.loads((compared / "summary.json").read_text(encoding="utf-8"))
    rows = pd.read_csv(compared / "results.csv")
    main_figure = f"test_{TASKS[task].main}"
    assert summary["metric"] == main_figure
    means = rows.groupby("method")[main_figure].mean()
    joint = rows[rows["method"] == "joint"].set_index("seed")[main_figure]
    for method, values in summary["methods"].items():
        assert values["mean"] == pytest.approx(means[method])
        assert values["rank"] == 1 + (means > means[method]).sum()
        if method != "joint":
            own = rows[rows["method"] == method].set_index("seed")[main_figure]
            assert values["difference_to_joint"]["mean"] == pytest.approx(np.mean(own - joint))


def test_no_page_mentions_accuracy(task: str, compared: Path, tmp_path: Path) -> None:
    page = tmp_path / "one.html"
    assert run("report", str(compared / "runs" / "joint-seed0"), "--out", str(page)) == 0
    for text in (said(compared / "report.html"), said(page)):
        assert "accurac" not in text.lower()
        assert TASKS[task].main_name in text


def test_a_run_is_diagnosed(task: str, compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = compared / "runs" / "joint-seed0"
    assert run("diagnose", str(folder)) == 0
    out = capsys.readouterr().out
    assert {"multilabel": "linear-map", "regression": "ridge-r2"}[task] in out
    refused = [name for name in ("ogm", "opm", "pmr", "agm", "mla") if f"{name} " in out]
    assert refused == []
    assert (folder / "diagnosis.html").exists() == (task == "regression")


def test_unsupported_options_are_refused_in_one_line(task: str, compared: Path) -> None:
    folder = compared / "runs" / "joint-seed0"
    with pytest.raises(UsageError, match=f"{task}.*probes") as caught:
        eq.encoder_quality(folder)
    assert "\n" not in str(caught.value)
    if task == "multilabel":
        for measure in (eq.examine_run, contribution_of_run):
            with pytest.raises(UsageError, match="several labels"):
                measure(folder)


def test_a_method_that_needs_classes_ends_the_command(
    task: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "--data", data, "--methods", "joint", "ogm-ge", "--out", str(tmp_path / "out")]
    assert run(*words) == 2
    said_so = capsys.readouterr().err.strip()
    assert said_so.startswith(
        f"equipoise: the method 'ogm-ge' is defined for classification, and this is {task}"
    )
    assert not (tmp_path / "out" / "results.csv").exists()
