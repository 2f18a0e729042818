"""Commands that succeed: what they print and what they write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import equipoise as eq
import synthetic

QUICK = ["--epochs", "2", "--batch-size", "32", "--diagnose-every", "1"]


def test_compare_prints_the_table_and_writes_the_files(equipoise, data, tmp_path: Path) -> None:
    ended = equipoise(
        "compare",
        *["--data", data, "--methods", "joint", "unimodal", "--seeds", 1, 2, 4],
        *["--out", "out", "--workers", 1, *QUICK],
    )
    assert ended.code == 0, ended.err
    for word in ("joint", "unimodal:audio", "test accuracy", "95 % interval", "rank", "out/report.html"):
        assert word in ended.out
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert sorted(set(results["seed"])) == [1, 2, 4]
    mean = results[results["method"] == "joint"]["test_accuracy"].mean()
    assert f"{mean:.3f}" in ended.out


def test_a_grid_shows_every_cell_and_the_cause_of_a_failure(equipoise, data, tmp_path: Path) -> None:
    words = ["--methods", "joint", "--seeds", 1, "--workers", 1, *QUICK]
    ended = equipoise("compare", "--data", data, *words, "--vary", "lr=1e-2,1e20", "--out", "out")
    assert ended.code == 1
    grid = pd.read_csv(tmp_path / "out" / "grid.csv")
    assert list(grid["lr"]) == [1e-2, 1e20]
    assert list(grid["failed"]) == [0, 1]
    for found in (f"{grid['mean'][0]:.3f}", f"{grid['validation'][0]:.3f}", "lr=0.01", "out/report.html"):
        assert found in ended.out
    assert "\nlr=1e+20, joint, seed 0: failed: the training loss is nan" in ended.err


def test_a_comparison_is_not_a_run(equipoise, data) -> None:
    equipoise(
        "compare", "--data", data, "--methods", "joint", "--seeds", 1, "--out", "c", "--workers", 1, *QUICK
    )
    ended = equipoise("diagnose", "c")
    assert ended.code == 2
    assert "c holds a comparison; expected one of its runs" in ended.err


def test_compare_reads_its_own_configuration_again(equipoise, data, tmp_path: Path) -> None:
    words = ["--methods", "diagnose-relearn", "--seeds", 1, "--workers", 1, *QUICK]
    first = equipoise(
        "compare", "--data", data, *words, "--set", "diagnose-relearn.count=0", "--out", "first"
    )
    assert first.code == 0, first.err
    again = equipoise("compare", "--config", "first/config.yaml", "--out", "again", "--workers", 1)
    assert again.code == 0, again.err
    one, two = (pd.read_csv(tmp_path / name / "results.csv") for name in ("first", "again"))
    same = ["method", "seed", "test_accuracy", "split_fingerprint", "init_fingerprint", "epochs"]
    assert one[same].equals(two[same])


def test_without_out_an_unused_folder_is_created(equipoise, data) -> None:
    for expected in ("runs/two-joint-seed0", "runs/two-joint-seed0-2"):
        ended = equipoise("train", "--data", data, *QUICK)
        assert ended.code == 0, ended.err
        assert ended.out.rstrip().endswith(expected)


def test_command_line_options_override_the_file(equipoise, data, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"data: {data}\nepochs: 1\nlr: 0.01\nset: [alpha=0.3]\nmethod: ogm\n")
    ended = equipoise("train", "--config", "mine.yaml", "--lr", "0.02", "--out", "run")
    assert ended.code == 0, ended.err
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "lr: 0.02" in config
    assert "epochs: 1" in config
    assert "alpha=0.3" in config


def test_diagnose_a_run(equipoise, data, tmp_path: Path) -> None:
    equipoise("train", "--data", data, "--out", "run", "--trace", *QUICK)
    ended = equipoise("diagnose", "run", "--figures", "figures", "--formats", "svg", "pdf")
    assert ended.code == 0, ended.err
    for words in ("training purity", "audio: ", "Shapley value", "95 % interval"):
        assert words in ended.out
    page = (tmp_path / "run" / "diagnosis.html").read_bytes()
    record = json.loads((tmp_path / "run" / "diagnosis.json").read_text())
    assert record["learning"]["options"]["repeats"] == 5  # the preset robust
    assert set(record["verdicts"]) == {"audio", "video"}
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn >= {
        f"{name}.{kind}" for name in ("trace", "projections", "states") for kind in ("svg", "pdf")
    }
    assert not any(name.endswith(".png") for name in drawn)
    again = equipoise("diagnose", "run", "--preset", "paper")
    assert again.code == 0
    assert "kept run/diagnosis.html" in again.out
    assert (tmp_path / "run" / "diagnosis.html").read_bytes() == page
    ended = equipoise("diagnose", "run", "--overwrite", "--test")
    assert ended.code == 0, ended.err
    assert "on test" in ended.out
    assert (tmp_path / "run" / "diagnosis.html").read_bytes() != page
    ended = equipoise("report", "run", "--figures", "more", "--formats", "png")
    assert ended.code == 0, ended.err
    assert (tmp_path / "more" / "confusion-test.png").is_file()


def test_diagnose_a_feature_file(equipoise, tmp_path: Path) -> None:
    inputs, target = synthetic.samples({"[bold]x[/bold]": (4,)}, 60)
    arrays = {f"{split}_{m}": x for split in ("train", "val") for m, x in inputs.items()}
    np.savez(tmp_path / "features.npz", **arrays, train_labels=target, val_labels=target)
    ended = equipoise("diagnose", "--features", "features.npz", "--set", "metric=knn")
    assert ended.code == 0, ended.err
    assert "[bold]x[/bold]" in ended.out  # a name is not markup
    assert "0.000" in ended.out
    written = ["features.diagnosis.html", "features.diagnosis.json", "features.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == written


def test_report_of_separate_runs(equipoise, data, tmp_path: Path) -> None:
    for method in ("joint", "ogm-ge"):
        equipoise("train", "--data", data, "--method", method, "--out", method, *QUICK)
    ended = equipoise("report", "joint", "ogm-ge", "--out", "both.html")
    assert ended.code == 0, ended.err
    page = (tmp_path / "both.html").read_text()
    assert "ogm-ge" in page
    assert "not ranked" in page.lower()
    kept = equipoise("report", "joint", "--out", "both.html")
    assert kept.code == 2
    assert "both.html exists" in kept.err


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("methods", ["diagnose-relearn", "ogm-ge", "optimisation", "the joint loss plus a loss on each"]),
        ("methods --long", ["ogm-ge", "optimisation", "ECCV 2024", "cost", "needs"]),
        ("datasets", ["htad", "audio, accelerometer"]),
        ("models", ["resnet18", "transformer", "concat"]),
        ("recipes", ["convolutions", "paper", "'crop_area': 0.7"]),
        ("metrics", ["purity", "linear-probe"]),
    ],
)
def test_list(equipoise, what: str, words: list[str]) -> None:
    ended = equipoise("list", *what.split())
    assert ended.code == 0, ended.err
    for word in words:
        assert word in ended.out


def test_a_method_is_one_line(equipoise) -> None:
    head, *lines = equipoise("list", "methods").out.splitlines()
    assert head.split() == ["name", "family", "summary"]
    assert {line.split()[0] for line in lines} == set(eq.list_methods())
    assert len(lines) == len(eq.list_methods())
    assert max(map(len, lines)) < 140


def test_warnings_suggest_a_remedy_in_one_line(equipoise, data) -> None:
    ended = equipoise("train", "--data", data, "--method", "diagnose-relearn", "--set", "every=9", *QUICK)
    assert ended.code == 0
    lines = [line for line in ended.err.splitlines() if line.startswith("warning:")]
    assert len(lines) == 1
    assert "never takes effect" in lines[0]
    assert "Train longer" in lines[0]


def test_a_failed_run_ends_with_1_and_is_named(equipoise, data) -> None:
    ended = equipoise(
        "compare",
        *["--data", data, "--methods", "joint", "--seeds", 1, "--lr", 1e20],
        *["--out", "out", "--workers", 1, *QUICK],
    )
    assert ended.code == 1
    assert "joint, seed 0: failed: the training loss is" in ended.err


def test_resume_says_where_there_is_nothing_to_resume(equipoise, data, tmp_path: Path) -> None:
    def first_line(*words: object) -> str:
        return equipoise(*words, "--data", data, "--resume", *QUICK).err.split("\n")[0]

    said = "note: there is nothing to resume in run; this is a new start."
    run = ["train", "--out", "run"]
    (tmp_path / "run").mkdir()
    assert first_line(*run) == said
    assert first_line(*run) == ""
    (tmp_path / "run" / "result.json").unlink()  # as if it had been killed before its first checkpoint
    assert first_line(*run) == "note: run holds no checkpoint yet; the run starts at epoch 0."
    compared = ["compare", "--out", "all", "--methods", "joint", "--workers", 1]
    assert first_line(*compared, "--seeds", 1) == said.replace("in run", "in all")
    assert first_line(*compared, "--seeds", 2) == "2 runs, 1 of them finished before"


LATIN = pytest.param({"PYTHONIOENCODING": "latin-1"}, marks=pytest.mark.matrix)


@pytest.mark.parametrize("environment", [{"PYTHONUTF8": "0", "LC_ALL": "C"}, LATIN])
def test_names_that_the_output_cannot_encode(tmp_path: Path, environment: dict[str, str]) -> None:
    eq.write_dataset(tmp_path / "Gerät", *synthetic.samples(synthetic.VECTORS, 150), name="Gerät π")
    words = ["train", "--data", "Gerät", "--out", "Läufe/eins", *QUICK]
    ended = subprocess.run(
        [sys.executable, "-m", "equipoise", *words],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    if "LC_ALL" in environment:
        assert "joint on Gerät π, recipe vectors, epoch" in ended.stdout.decode()
        assert ended.stdout.decode().endswith("\nLäufe/eins\n")
    else:
        assert b"joint on Ger\xe4t \\u03c0, recipe vectors, epoch" in ended.stdout
    assert (tmp_path / "Läufe" / "eins" / "result.json").is_file()
