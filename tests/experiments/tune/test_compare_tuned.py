"""Comparisons of tuned methods: their settings, new seeds, otherwise equal conditions, what they say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import equipoise as eq
import synthetic
from equipoise.experiments.compare.fairness import obstacles
from equipoise.experiments.compare.tuned import read_tuned
from equipoise.training.record.fingerprints import of_budget
from equipoise.training.settings import Settings

QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 32, "workers": 1}
METHODS = ["joint", "ogm", "ensemble"]


@pytest.fixture(scope="module")
def tuned(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "out"
    table = eq.tune(data, METHODS, trials=2, out=out, **QUICK)
    assert set(table.index) == {"joint", "ogm", "unimodal:audio", "unimodal:video"}
    # Nothing need win over the defaults in two trials, so the winners are made different here.
    values = yaml.safe_load((out / "tuned.yaml").read_text())
    values["methods"]["joint"]["chosen"] = {"lr": 0.05, "weight_decay": 2e-3}
    values["methods"]["ogm"] |= {"chosen": {"lr": 0.2, "weight_decay": 5e-4}, "options": {"alpha": 0.3}}
    values["methods"]["unimodal:audio"]["chosen"] = {"lr": 0.3, "weight_decay": 1e-4}
    del values["seals"]  # as earlier versions wrote it: it may be edited
    (out / "tuned.yaml").write_text(yaml.safe_dump(values))
    return out


@pytest.fixture(scope="module")
def compared(tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("compared") / "out"
    return out, eq.compare(tuned=tuned, seeds=3, workers=1, out=out)


def test_the_methods_take_their_tuned_settings(compared: tuple[Path, pd.DataFrame]) -> None:
    out, table = compared
    assert set(table.index) == set(METHODS)
    runs = {
        name: yaml.safe_load((out / "runs" / f"{name}-seed2" / "config.yaml").read_text())
        for name in ("joint", "ogm", "ensemble", "unimodal-audio")
    }
    assert [runs["joint"][key] for key in ("lr", "weight_decay")] == [0.05, 2e-3]
    assert [runs["ogm"][key] for key in ("lr", "weight_decay", "set")] == [0.2, 5e-4, ["alpha=0.3"]]
    assert runs["unimodal-audio"]["lr"] == 0.3  # the ensemble is built from the tuned runs
    assert runs["ensemble"]["lr"] == 0.1
    assert {run["epochs"] for run in runs.values()} == {3}


def test_it_is_ranked_and_says_what_tuning_gave(compared: tuple[Path, pd.DataFrame], tuned: Path) -> None:
    out, table = compared
    summary = json.loads((out / "summary.json").read_text())
    assert summary["not_ranked_because"] == []
    assert table["rank"].notna().all()
    told = summary["tuning"]
    assert (told["trials"], told["seeds"], told["figure"]) == (2, [1000], "accuracy")
    held = read_tuned(tuned).methods
    for name in ("joint", "ogm", "unimodal:audio"):
        assert told["methods"][name]["best"] == held[name].best >= held[name].default
        assert told["methods"][name]["chosen"] == held[name].chosen
    assert "ensemble" not in told["methods"]
    page = (out / "report.html").read_text()
    for words in ("Tuning: 2 trials for each method", "settings of the winner", "alpha 0.3", "lr 0.2"):
        assert words in page


def test_a_run_equals_the_same_single_run(compared: tuple[Path, pd.DataFrame], data: str) -> None:
    held = eq.load_run(compared[0] / "runs" / "ogm-seed1")
    alone = eq.fit(
        data, "ogm", seed=1, epochs=3, batch_size=32, lr=0.2, weight_decay=5e-4, method_options={"alpha": 0.3}
    )
    assert held.test == alone.test


def test_it_is_resumed_and_its_configuration_can_be_used_again(
    compared: tuple[Path, pd.DataFrame], tuned: Path, tmp_path: Path
) -> None:
    out, table = compared
    stamp = (out / "runs" / "ogm-seed0" / "result.json").stat().st_mtime_ns
    again = eq.compare(tuned=tuned, seeds=4, workers=1, out=out, resume=True)
    assert (out / "runs" / "ogm-seed0" / "result.json").stat().st_mtime_ns == stamp
    assert (again["n"] == 4).all()
    assert yaml.safe_load((out / "config.yaml").read_text())["tuned"] == str(tuned.resolve())
    with pytest.raises(eq.RunFolderError, match="another configuration"):
        eq.compare(read_tuned(tuned).settings["data"], METHODS, seeds=3, out=out, resume=True, **QUICK)


def test_a_budget_that_differs_otherwise_is_not_ranked(tuned: Path, data: str) -> None:
    shared = Settings.from_options(data, epochs=3, batch_size=32)
    held = read_tuned(tuned)
    budgets = held.summary(shared, ["joint", "ogm"])["budgets"]

    def run(method: str, seed: int, **changes: Any) -> dict[str, Any]:
        budget = replace(held.run_settings(shared, method, seed).budget, **changes)
        same = dict.fromkeys([f"{key}_fingerprint" for key in ("data", "split", "init", "order")], "x")
        return {
            "method": method,
            "seed": seed,
            "model": "m",
            "environment": {"device": "cpu"},
            "budget_fingerprint": of_budget(budget),
            **same,
        }

    runs = [run(method, seed) for method in ("joint", "ogm") for seed in range(3)]
    assert obstacles(runs, budgets) == []
    assert obstacles(runs) != []  # without the tuning nothing explains the difference
    for changes in ({"epochs": 4}, {"momentum": 0.8}, {"lr": 0.21}):
        changed = [*runs[:-1], run("ogm", 2, **changes)]
        assert obstacles(changed, budgets) == ["the runs differ in more of their budget than what was tuned"]


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"seeds": [0, 1000]}, "tuned with seed 1000; expected other seeds"),
        ({"epochs": 4}, r"not those of the tuning in .*: epochs 4 \(tuned with 3\)"),
        ({"lr": 0.3}, r"lr 0.3 \(tuned with 0.1\)"),
        ({"methods": ["joint", "pmr", "umt"]}, "no tuned settings for pmr, umt"),
        ({"method_options": {"ogm": {"alpha": 0.5}}}, "options of ogm are set, and tuned too"),
        ({"vary": {"lr": [0.1, 0.2]}}, "expected a single comparison"),
        ({"split_seed": 3}, "differs from 'two' in splits"),
    ],
)
def test_what_departs_from_the_tuning_is_refused(
    arguments: dict[str, Any], wrong: str, tuned: Path, tmp_path: Path
) -> None:
    given = {"seeds": 3, "workers": 1, "out": tmp_path / "out", **arguments}
    with pytest.raises(eq.UsageError, match=wrong):
        eq.compare(tuned=tuned, **given)
    assert not (tmp_path / "out").exists()


def test_other_data_are_refused_and_the_same_elsewhere_are_not(
    tuned: Path, data: str, tmp_path: Path
) -> None:
    other = synthetic.write(tmp_path / "other" / "two", seed=1).path
    with pytest.raises(eq.UsageError, match="was tuned on other data: .* differs from 'two' in data"):
        eq.compare(str(other), ["joint"], tuned=tuned, seeds=1, workers=1, out=tmp_path / "out")
    same = shutil.copytree(data, tmp_path / "same" / "two")
    table = eq.compare(str(same), ["joint"], tuned=tuned, seeds=1, workers=1, out=tmp_path / "out")
    assert list(table["n"]) == [1]


def test_a_folder_without_a_tuning_and_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(eq.RunFolderError, match="holds no tuning: there is no tuned.yaml"):
        eq.compare(tuned=tmp_path)
    for text in ("methods: 3", "[]", "trials: x\n", "{"):
        (tmp_path / "tuned.yaml").write_text(text)
        with pytest.raises(eq.RunFolderError, match="cannot read"):
            eq.compare(tuned=tmp_path)


def test_options_of_a_method_that_trains_nothing_can_be_set(tuned: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    eq.compare(
        methods=["ensemble"],
        tuned=tuned,
        seeds=1,
        workers=1,
        out=out,
        method_options={"ensemble": {"rule": "logit"}},
    )
    result = json.loads((out / "runs" / "ensemble-seed0" / "result.json").read_text())
    assert result["method_options"] == {"rule": "logit"}
