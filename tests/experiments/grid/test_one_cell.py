"""Comparisons: equal conditions, complete tables, no lost runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import equipoise as eq
import synthetic
from equipoise.experiments.compare.comparison import COLUMNS, read_comparison
from equipoise.experiments.grid.output_folder import held_configuration
from equipoise.training.record.locks import locked

QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 32, "diagnose_every": 0, "workers": 1}
METHODS = ["joint", "unimodal", "ensemble", "ogm-ge", "diagnose-relearn"]
RELEARN = {"diagnose-relearn": {"every": 1, "count": 1}}


@pytest.fixture(scope="module")
def compared(data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("compared") / "out"
    options = QUICK | {"diagnose_every": 1}
    return out, eq.compare(data, METHODS, seeds=3, out=out, method_options=RELEARN, **options)


def test_it_writes_the_documented_files(compared: tuple[Path, pd.DataFrame]) -> None:
    out, _ = compared
    assert {p.name for p in out.iterdir()} == {
        "config.yaml",
        "results.csv",
        "summary.json",
        "report.html",
        "runs",
        "floors",
    }
    results = pd.read_csv(out / "results.csv")
    assert tuple(results.columns) == COLUMNS
    assert len(results) == 3 * 6
    assert set(results["method"]) == {
        "joint",
        "unimodal:audio",
        "unimodal:video",
        "ensemble",
        "ogm-ge",
        "diagnose-relearn",
    }
    assert (results["status"] == "ok").all()
    for folder in (out / "runs").iterdir():
        assert (folder / "result.json").is_file()


def test_conditions_are_equal_within_a_seed(compared: tuple[Path, pd.DataFrame]) -> None:
    results = pd.read_csv(compared[0] / "results.csv")
    assert results["split_fingerprint"].nunique() == 1
    per_seed = results.groupby("seed")["init_fingerprint"].nunique()
    assert (per_seed == 1).all()
    assert results["init_fingerprint"].nunique() == 3


def test_the_table_agrees_with_the_rows(compared: tuple[Path, pd.DataFrame]) -> None:
    out, table = compared
    results = pd.read_csv(out / "results.csv")
    summary = json.loads((out / "summary.json").read_text())
    accuracy = results.pivot(index="seed", columns="method", values="test_accuracy")
    for method in table.index:
        assert table.loc[method, "mean"] == pytest.approx(accuracy[method].mean())
        assert table.loc[method, "std"] == pytest.approx(accuracy[method].std(ddof=1))
        assert summary["methods"][method]["mean"] == pytest.approx(accuracy[method].mean())
        if method != "joint":
            difference = (accuracy[method] - accuracy["joint"]).mean()
            assert table.loc[method, "difference"] == pytest.approx(difference)
    assert summary["ranked"] is True
    assert table.loc[table["mean"].idxmax(), "rank"] == 1


def test_an_ensemble_reuses_the_unimodal_runs(compared: tuple[Path, pd.DataFrame]) -> None:
    out, _ = compared
    results = pd.read_csv(out / "results.csv").set_index(["method", "seed"])
    for seed in range(3):
        parts = json.loads((out / "runs" / f"ensemble-seed{seed}" / "result.json").read_text())["parts"]
        assert parts == {
            f"unimodal:{m}": str(out / "runs" / f"unimodal-{m}-seed{seed}") for m in synthetic.VECTORS
        }
        cost = sum(results.loc[(f"unimodal:{m}", seed), "forward_samples"] for m in synthetic.VECTORS)
        assert results.loc[("ensemble", seed), "forward_samples"] == cost


def test_a_run_of_a_comparison_equals_the_same_single_run(
    compared: tuple[Path, pd.DataFrame], data: str
) -> None:
    held = eq.load_run(compared[0] / "runs" / "diagnose-relearn-seed2")
    alone = eq.fit(
        data, "diagnose-relearn", method_options={"every": 1, "count": 1}, seed=2, epochs=3, batch_size=32
    )
    assert held.test == alone.test
    for name, value in held.model.state_dict().items():
        assert np.array_equal(value.numpy(), alone.model.state_dict()[name].numpy())


def test_several_processes_give_the_results_of_one(data: str, tmp_path: Path) -> None:
    methods = ["joint", "ensemble"]
    tables = [
        eq.compare(data, methods, seeds=[1, 2], out=tmp_path / str(workers), **(QUICK | {"workers": workers}))
        for workers in (1, 2)
    ]
    columns = ["mean", "std", "n", "difference", "forward_samples"]
    pd.testing.assert_frame_equal(tables[0][columns], tables[1][columns])


def test_resuming_keeps_finished_runs_and_adds_new_ones(data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    eq.compare(data, ["joint"], seeds=2, out=out, **QUICK)
    stamp = (out / "runs" / "joint-seed0" / "result.json").stat().st_mtime_ns
    with pytest.raises(eq.RunFolderError, match="holds a comparison already"):
        eq.compare(data, ["joint"], seeds=2, out=out, **QUICK)
    with pytest.raises(eq.RunFolderError, match="another configuration: epochs 3"):
        eq.compare(data, ["joint"], seeds=2, out=out, resume=True, **(QUICK | {"epochs": 2}))
    table = eq.compare(data, ["ogm-ge"], seeds=[2], out=out, resume=True, **QUICK)
    assert list(table["n"]) == [3, 3]
    assert (out / "runs" / "joint-seed0" / "result.json").stat().st_mtime_ns == stamp
    eq.compare(data, ["joint"], seeds=1, out=out, overwrite=True, **QUICK)
    assert [path.name for path in (out / "runs").iterdir()] == ["joint-seed0"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"methods": "joint"}, "config.yaml has methods: 'joint', expected a list of names; restore it"),
        ({"seeds": 5}, "has seeds: 5, expected a list"),
        ({"seeds": None}, "has seeds: None, expected a list"),
        ({"seeds": ["one"]}, r"has seeds: \['one'\], expected a list"),
        ({"first_seed": "zero"}, "has first_seed: 'zero', expected a whole number"),
    ],
)
def test_a_spoilt_configuration_is_named(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"methods": ["joint"], "seeds": [2], **wrong}))
    with pytest.raises(eq.RunFolderError, match=message):
        held_configuration(tmp_path)


def test_a_folder_with_other_files_is_never_changed(data: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "thesis.tex").write_text("years of work")
    with pytest.raises(eq.RunFolderError, match="in the way"):
        eq.compare(data, ["joint"], seeds=1, out=tmp_path, overwrite=True, **QUICK)
    out = tmp_path / "out"
    eq.compare(data, ["joint"], seeds=1, out=out, **QUICK)
    (out / "runs" / "joint-seed0" / "notes.txt").write_text("mine")
    eq.write_report([out / "runs" / "joint-seed0"])
    table = eq.compare(data, ["joint"], seeds=1, out=out, overwrite=True, **QUICK)
    assert list(table["n"]) == [1]
    assert not (out / "runs" / "joint-seed0" / "report.html").exists()
    assert (out / "runs" / "joint-seed0" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "runs" / "thesis.tex").read_text() == "years of work"


def test_a_failed_run_stays_in_the_table(data: str, tmp_path: Path) -> None:
    table = eq.compare(data, ["joint"], seeds=2, out=tmp_path / "out", **(QUICK | {"lr": 1e20}))
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert results["status"].str.startswith("failed: the training loss is").all()
    assert np.isnan(table.loc["joint", "mean"])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["methods"]["joint"]["failed"] == 2
    assert summary["ranked"] is False
    assert summary["not_ranked_because"] == ["every method has a run that failed"]


def test_one_seed_is_not_ranked(data: str, tmp_path: Path) -> None:
    table = eq.compare(data, ["joint", "ogm-ge"], seeds=1, out=tmp_path / "out", **QUICK)
    assert table["rank"].isna().all()
    assert "at least 3 seeds" in table.attrs["not_ranked_because"][0]
    held = read_comparison(tmp_path / "out")
    assert held.table()["mean"].equals(table["mean"])


def test_splits_may_be_drawn_anew_for_each_seed(data: str, tmp_path: Path) -> None:
    eq.compare(data, ["joint", "ogm-ge"], seeds=3, out=tmp_path / "out", split_seed="run", **QUICK)
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert (results.groupby("seed")["split_fingerprint"].nunique() == 1).all()
    assert results["split_fingerprint"].nunique() == 3
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["ranked"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["join"]}, "unknown method 'join': did you mean joint"),
        ({"methods": []}, "no method was given"),
        ({"methods": ["joint:audio"]}, "has no variants"),
        ({"seeds": []}, "no seed was given"),
        ({"seeds": [1, 1]}, "a seed is repeated"),
        ({"method_options": {"ogm": {"alfa": 1}}, "methods": ["ogm"]}, "did you mean alpha"),
        ({"method_options": {"jont": {}}}, "unknown method 'jont'"),
        ({"executor": "slurm"}, "unknown executor 'slurm'"),
        ({"workers": 0}, "workers is 0"),
        ({"methods": ["ogm"], "fusion": "average"}, "needs a model with additive_head"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_written(
    data: str, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(eq.UsageError, match=message):
        eq.compare(data, **{"methods": ["joint"], "seeds": 1, "out": out, **QUICK, **arguments})
    assert not out.exists()


def test_one_modality_has_no_balance(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path / "data", {"only": (5,)}).path
    with pytest.raises(eq.UsageError, match="needs at least 2 modalities; found 1: only"):
        eq.compare(folder, ["ogm"], seeds=1, out=tmp_path / "out", **QUICK)
    table = eq.compare(
        folder,
        ["joint", "unimodal", "ensemble", "diagnose-relearn"],
        seeds=1,
        method_options=RELEARN,
        out=tmp_path / "out",
        **QUICK,
    )
    assert table.loc["ensemble", "mean"] == table.loc["unimodal:only", "mean"]


@pytest.mark.parametrize("place", ["", "runs/joint-seed0"])
def test_a_comparison_that_is_being_written_is_left_alone(data: str, tmp_path: Path, place: str) -> None:
    """Also one of which a worker goes on writing a run, though nobody holds the comparison itself."""
    out = tmp_path / "out"
    eq.compare(data, ["joint"], seeds=2, out=out, **QUICK)
    with locked(out / place):
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        with pytest.raises(eq.RunFolderError, match="another process is writing into"):
            eq.compare(data, ["joint"], seeds=1, out=out, overwrite=True, **QUICK)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
