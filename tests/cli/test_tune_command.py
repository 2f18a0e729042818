"""`equipoise tune`, and `equipoise compare --tuned`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import equipoise as eq

QUICK = ["--epochs", "2", "--batch-size", "32"]


def test_tune_and_compare(equipoise, data, tmp_path: Path) -> None:
    tuned = equipoise(
        "tune",
        "--data",
        data,
        "--methods",
        "joint",
        "ogm",
        "--trials",
        3,
        "--workers",
        1,
        "--out",
        "T",
        *QUICK,
    )
    assert tuned.code == 0, tuned.err
    for words in ("3 trials of 2 epochs for each method", "validation accuracy", "seed 1000", "alpha="):
        assert words in tuned.out
    assert tuned.out.rstrip().endswith("equipoise compare --tuned T")
    assert tuned.err.splitlines()[0] == "6 trials"
    assert tuned.err.splitlines()[1].startswith("1 of 6 trials: joint, trial 0: ")
    compared = equipoise("compare", "--tuned", "T", "--seeds", 3, "--workers", 1, "--out", "C")
    assert compared.code == 0, compared.err
    assert "Tuned with 3 trials for each method, by validation accuracy, seed 1000" in compared.out
    assert "alpha=" in compared.out
    again = equipoise("compare", "--config", "C/config.yaml", "--out", "D", "--workers", 1)
    assert again.code == 0, again.err
    assert (tmp_path / "C" / "summary.json").is_file()
    first, second = ((tmp_path / name / "results.csv").read_text().splitlines() for name in ("C", "D"))
    assert [line.split(",")[:6] for line in first] == [line.split(",")[:6] for line in second]


def test_a_failed_method_is_named_with_its_cause(equipoise, data) -> None:
    ended = equipoise(
        *["tune", "--data", data, "--methods", "joint", "--trials", 1, "--workers", 1, "--out", "T"],
        *[*QUICK, "--lr", "1e20"],
    )
    assert ended.code == 1
    assert "1 of 1 trials: joint, trial 0: failed: the training loss is nan in epoch" in ended.err
    assert "no trial of joint has finished." in ended.err


def test_resume_says_that_there_is_nothing(equipoise, data) -> None:
    words = [
        "tune",
        "--data",
        data,
        "--methods",
        "joint",
        "--trials",
        1,
        "--workers",
        1,
        "--out",
        "T",
        *QUICK,
    ]
    assert "there is nothing to resume in T" in equipoise(*words, "--resume").err
    again = equipoise(*words, "--resume")
    assert "nothing to resume" not in again.err
    assert "1 trial, 1 of them ended before" in again.err


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--trials", "0"], "trials is 0; expected a whole number of at least 1"),
        (["--trials", "some"], "expected a whole number, found 'some'"),
        (["--methods", "diagnose-relern"], "did you mean diagnose-relearn"),
        (["--set", "lam=3"], "expected METHOD.OPTION=VALUE"),
        (["--split-seed", "run"], "would test on samples by which the settings were chosen"),
        (["--trace"], "--trace"),
    ],
)
def test_wrong_use_is_one_line(equipoise, data, words: list[str], wrong: str, tmp_path: Path) -> None:
    ended = equipoise("tune", "--data", data, "--out", "T", *QUICK, *words)
    assert ended.code == 2
    assert wrong in ended.err
    assert len([line for line in ended.err.splitlines() if line.startswith("equipoise: ")]) == 1
    assert not (tmp_path / "T").exists()


def test_a_missing_optuna_is_one_line(data, tmp_path: Path) -> None:
    (tmp_path / "optuna.py").write_text(
        "raise ModuleNotFoundError('as if it was not installed', name='optuna')\n"
    )
    places = os.pathsep.join([str(tmp_path), str(Path(eq.__file__).parents[1])])
    ended = subprocess.run(
        [sys.executable, "-m", "equipoise", "tune", "--data", data],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == "equipoise: tuning needs the package 'optuna': pip install 'equipoise[tune]'\n"
