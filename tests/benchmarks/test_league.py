"""The league: rows that stay, runs that are missing, and what is said of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from benchmark_parts import modules_of
from equipoise.methods import create_method
from equipoise.training.settings import Settings

FOLDER = Path(__file__).parents[2] / "benchmarks" / "league"
NAMES = ("sets", "rows", "running", "analysis", "pictures", "page")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The modules of the league."""
    return modules_of("league", NAMES, monkeypatch)


def table_of(scores: dict[str, list[float]], dataset: str) -> pd.DataFrame:
    """Return rows with these test scores by method, one a seed."""
    same = {
        "status": "ok",
        "dataset": dataset,
        "model": "mlp",
        "task": "classification",
        "epochs": 3,
        "best_epoch": 2,
        "train_seconds": 1.0,
        "method_seconds": 0.0,
        "device": "cpu",
        "budget_fingerprint": "b",
        "data_fingerprint": "d",
        "experimental": False,
    }
    return pd.DataFrame(
        {
            **same,
            "method": method,
            "seed": seed,
            "val": 1 - score,
            "test": score,
            "forward_samples": 100 if method == "joint" else 150,
            "backward_samples": 100,
            "peak_memory_bytes": None,
            "train_data": None,
            **{f"{kind}_fingerprint": f"{kind}{seed}" for kind in ("split", "init", "order")},
            **dict.fromkeys(("floor_score", "floor_difference", "floor_below")),
        }
        for method, values in scores.items()
        for seed, score in enumerate(values)
    )


SCORES = {
    "joint": [0.50, 0.52, 0.54, 0.56],
    "multi-loss": [0.60, 0.61, 0.65, 0.66],
    "short-ensemble": [0.50, 0.52, 0.55, 0.55],
    "diagnose-relearn": [0.40, 0.42, 0.45, 0.46],
    "diagnose-relearn-plus": [0.70, 0.71, 0.75, 0.76],
}


def test_a_method_that_is_still_run_keeps_no_set_from_the_page(parts) -> None:
    rows = parts["analysis"].SetRows.of("one", "One", False, table_of(SCORES | {"ogm": [0.9, 0.9]}, "one"))
    assert rows.seeds == [0, 1, 2, 3]
    assert set(rows.scores.columns) == set(SCORES)


@pytest.fixture
def league(parts):
    """Two sets; on the second, with noise, joint and multi-loss have changed places."""
    swapped = SCORES | {"joint": SCORES["multi-loss"], "multi-loss": SCORES["joint"]}
    analysis = parts["analysis"]
    return analysis.League(
        [
            analysis.SetRows.of("one", "One", False, table_of(SCORES, "one")),
            analysis.SetRows.of("two", "Two", True, table_of(swapped, "two")),
        ]
    )


def test_ranks_wins_and_gains_are_those_by_hand(league) -> None:
    ranks = league.across.mean_ranks
    # Joint and short-ensemble have equal means on the first set, so they share the places 3 and 4.
    assert ranks["diagnose-relearn-plus"] == 1
    assert ranks["joint"] == pytest.approx((3.5 + 2) / 2)
    assert ranks["diagnose-relearn"] == 5
    assert (league.wins("diagnose-relearn-plus"), league.wins("joint")) == (2, 0)
    assert league.place("multi-loss") == (3, 5)
    one, two = league.sets
    mean, low, high, p = one.gain("multi-loss")
    assert mean == pytest.approx(0.1)
    assert low < 0.1 < high
    assert p < 0.001
    assert league.mean_gain("diagnose-relearn-plus", [one, two]) == pytest.approx((0.2 + 0.1) / 2)
    assert league.worst("multi-loss")[0] == pytest.approx(-0.1)
    assert league.worst("multi-loss")[1] is two
    assert league.cost("multi-loss", "forward_samples") == pytest.approx(1.5)
    assert league.passes("multi-loss") == pytest.approx((150 + 2 * 100) / (100 + 2 * 100))


def test_losses_are_significant_ones_below(league) -> None:
    assert [one.name for one in league.losses("diagnose-relearn", "joint")] == ["one", "two"]
    assert [one.name for one in league.losses("multi-loss", "joint")] == ["two"]
    assert league.losses("short-ensemble", "joint")[0].name == "two"
    assert league.losses("diagnose-relearn-plus", "joint") == []
    found = league.to_dict("abc")
    assert found["methods"]["diagnose-relearn-plus"] == {
        "mean_rank": 1.0,
        "wins": 2,
        "significant_losses_to": [],
    }
    assert "diagnose-relearn-plus" in found["methods"]["joint"]["significant_losses_to"]
    assert (found["sets"], found["seeds"], found["commit"]) == (["one", "two"], 4, "abc")


def test_only_seeds_of_joint_training_count(parts) -> None:
    table = table_of(SCORES, "one")
    table = table[~((table["method"] == "joint") & (table["seed"] == 3))]
    rows = parts["analysis"].SetRows.of("one", "One", False, table)
    assert rows.seeds == [0, 1, 2]
    assert rows.gain("multi-loss")[0] == pytest.approx((0.10 + 0.09 + 0.11) / 3)


def test_a_method_that_failed_is_not_ranked_and_is_named(parts, league, tmp_path: Path) -> None:
    table = table_of(SCORES, "one")
    failed = (table["method"] == "diagnose-relearn") & (table["seed"] == 1)
    table.loc[failed, "status"] = "failed: the loss is nan"
    table.loc[failed, ["test", "val"]] = float("nan")
    rows = parts["analysis"].SetRows.of("one", "One", False, table)
    with_failure = parts["analysis"].League([rows, league.sets[1]])
    assert "diagnose-relearn" not in with_failure.names
    assert "One: diagnose-relearn failed 1 of 4 times: failed: the loss is nan" in "\n".join(
        parts["page"].several(with_failure)
    )


def test_the_page_says_what_came_out(parts, league, tmp_path: Path) -> None:
    page = tmp_path / "results" / "league.md"
    page.parent.mkdir()
    parts["page"].write(league, page, tmp_path / "images", "abc", ["seeds 0 to 3"])
    text = page.read_text(encoding="utf-8")
    said = "is number 1 of the 5 methods that were run on all 2 sets, and number 1 of the 4 of them with one"
    assert said in text
    assert "+15.0 points over joint training on average, +10.0 over the one set with" in text
    assert "| multi-loss | 2.8 | 0 |" in text
    assert json.loads(page.with_suffix(".json").read_text())["sets"] == ["one", "two"]
    for name in ("ranks", "gains", "costs"):
        drawn = (tmp_path / "images" / f"league-{name}.svg").read_text(encoding="utf-8")
        assert drawn.startswith("<svg")
        assert "diagnose-relearn-plus" in drawn


def test_followed_methods_are_chosen_by_validation(parts) -> None:
    # Validation scores are one minus those of test, so the best on validation is the worst on test.
    best = parts["analysis"].best_on_validation(
        {"one": table_of(SCORES, "one"), "two": table_of(SCORES, "two")}, 2, ["joint"]
    )
    assert best[0] == "diagnose-relearn"
    assert "diagnose-relearn-plus" not in best


def test_runs_leave_rows_and_are_not_computed_again(parts, tmp_path: Path) -> None:
    settings = Settings.from_options("htad", epochs=2, diagnose_every=0)
    rows, running = parts["rows"].Rows(tmp_path / "rows" / "htad.csv"), parts["running"]
    wanted = running.Wanted("htad", settings, ["joint", "multi-loss"], rows)
    (cell,) = wanted.cells([0, 1], tmp_path / "runs")
    assert (cell.methods, cell.seeds) == (("joint", "multi-loss"), [0, 1])
    running.run([running.Wanted("htad", settings, ["joint"], rows)], [0], tmp_path / "runs", 1)
    again = parts["rows"].Rows(rows.path)
    assert list(again.table["status"]) == ["ok"]
    cells = running.Wanted("htad", settings, ["joint", "multi-loss"], again).cells([0, 1], tmp_path / "runs")
    assert [(cell.methods, cell.seeds) for cell in cells] == [
        (("multi-loss",), [0]),
        (("joint", "multi-loss"), [1]),
    ]
    (record,) = parts["rows"].records_of(again.table)
    assert record["test"] == again.table["test"].iloc[0]
    assert record["environment"] == {"device": "cpu"}


def test_a_run_with_other_settings_or_options_is_another_one(parts) -> None:
    key = parts["rows"].key_of
    one = Settings.from_options("htad", epochs=2, method="multi-loss")
    assert key(one) == key(Settings.from_options("htad", epochs=2, method="multi-loss"))
    assert key(one) != key(Settings.from_options("htad", epochs=3, method="multi-loss"))
    # An option that is given with its default is the same run; another default would be another run.
    plus = create_method("diagnose-relearn-plus").options()["cycles"]
    runs = [
        one.with_method("diagnose-relearn-plus", given, 0) for given in ({}, {"cycles": plus}, {"cycles": 9})
    ]
    assert key(runs[0]) == key(runs[1]) != key(runs[2])


def test_the_command_explains_itself() -> None:
    found = subprocess.run(
        [sys.executable, str(FOLDER), "--help"], capture_output=True, text=True, check=True
    )
    assert "the same command resumes it" in found.stdout
