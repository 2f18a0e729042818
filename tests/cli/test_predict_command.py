"""`equipoise predict` as it is typed: tables, one-line errors, raw files, 80 columns."""

from __future__ import annotations

import shutil
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import equipoise as eq
import other_tasks
from equipoise.files.csv_cells import read_csv
from equipoise.training.prediction import table_file

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "diagnose_every": 0}


@pytest.fixture(scope="module")
def trained(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eq.fit(data, out=tmp_path_factory.mktemp("trained") / "run", **QUICK).run_dir


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run in the current folder."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def table_in(path: Path) -> pd.DataFrame:
    return read_csv(path, eq.DataError, dtype={"id": str, "predicted": str, "target": str})


def test_the_table_is_that_of_the_library(
    run: Path, data: str, tmp_path: Path, equipoise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = equipoise("predict", "run", "--data", data, "--split", "test", "--out", "out/p.csv")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == "30 samples predicted by joint on two"
    assert lines[-1] == "out/p.csv"
    assert max(map(len, lines)) <= 80
    expected = eq.load_run(run).predict(data, split="test")
    found = table_in(tmp_path / "out" / "p.csv")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-6)
    right = found["predicted"] == found["target"]
    assert f"accuracy: test {right.mean():.3f} ({right.sum()} of 30)" in lines
    assert any(line.split()[:1] == ["audio"] for line in lines)
    equipoise("predict", "run", "--data", data, "--split", "test", "--out", "p.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "p.parquet"), expected)
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_a_file_is_replaced_only_on_request(run: Path, data: str, tmp_path: Path, equipoise: Any) -> None:
    (tmp_path / "p.csv").write_text("mine")
    ended = equipoise("predict", run, "--data", data, "--out", "p.csv")
    assert (ended.code, (tmp_path / "p.csv").read_text()) == (2, "mine")
    assert ended.err == "equipoise: p.csv exists; give --overwrite to replace it, or --out FILE.\n"
    ended = equipoise("predict", run, "--data", data, "--out", "p.csv", "--overwrite", "--without", "audio")
    assert ended.code == 0
    assert ended.err == "note: audio left out; the mean feature of the training split stands in.\n"
    assert list(table_in(tmp_path / "p.csv"))[-2:] == ["contribution:video", "confidence:none"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "expected either --data NAME"),
        (["--data", "{data}", "--source", "x.csv"], 2, "expected either --data NAME"),
        (["--data", "{data}", "--split", "tset"], 2, "did you mean test?"),
        (["--data", "{data}", "--without", "vide"], 2, "did you mean video?"),
        (["--data", "{data}", "--without", "audio", "video"], 2, "keep one"),
        (["--data", "nowhere/at/all"], 2, "nowhere/at/all"),
        (["--data", "{data}", "--device", "gpu"], 2, "unknown device 'gpu'"),
        (["--source", "x.csv"], 1, "written as arrays, so raw files cannot be read"),
    ],
)
def test_mistakes_are_one_line(
    run: Path, data: str, words: list[str], code: int, message: str, tmp_path: Path, equipoise: Any
) -> None:
    given = [word.format(data=data) for word in words]
    ended = equipoise("predict", "run", *given, "--out", "p.csv")
    assert ended.code == code, ended.err
    (line,) = ended.err.splitlines()
    assert message in line
    assert ended.out == ""
    assert not (tmp_path / "p.csv").exists()


def test_raw_files_from_a_table_to_predictions(tmp_path: Path, equipoise: Any) -> None:
    rng = np.random.default_rng(0)

    def table(count: int) -> pd.DataFrame:
        kind = np.arange(count) % 3
        columns = {f"imu_{axis}": kind + rng.normal(size=count) for axis in "xyz"}
        columns |= {f"gps_{axis}": kind + rng.normal(size=count) for axis in "ab"}
        return pd.DataFrame({"id": [f"=s{row}" for row in range(count)], **columns, "target": kind})

    old, new = table(90), table(6)
    old.to_csv(tmp_path / "old.csv", index=False)
    chosen = ["--modalities-from", "imu:imu_*=numbers", "gps:gps_*=numbers"]
    assert equipoise("prepare", "table", "--source", "old.csv", "--out", "set", *chosen).code == 0
    assert equipoise("train", "--data", "set", "--epochs", "2", "--out", "run").code == 0
    (tmp_path / "old.csv").unlink()
    shutil.rmtree(tmp_path / "set")
    new.loc[2, "imu_y"] = np.nan
    new.drop(columns="target").to_csv(tmp_path / "new.csv", index=False)
    ended = equipoise("predict", "run", "--source", "new.csv", "--out", "p.csv")
    assert ended.code == 0
    (line,) = ended.err.splitlines()
    assert line.startswith("warning: 1 of 6 samples of new.csv cannot be read and are not predicted: ")
    assert "=s2" in line
    text = (tmp_path / "p.csv").read_text()
    assert "\n'=s0," in text  # no formula
    found = table_in(tmp_path / "p.csv")
    assert found["id"].tolist() == ["=s0", "=s1", "=s3", "=s4", "=s5"]
    assert "target" not in found
    ended = equipoise("predict", "run", "--source", "new.csv", "--out", "q.csv", "--without", "imu")
    assert len(table_in(tmp_path / "q.csv")) == 6


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_other_tasks(task: str, tmp_path: Path, equipoise: Any) -> None:
    data = other_tasks.write(tmp_path / "set", task).path
    result = eq.fit(data, out=tmp_path / "run", **QUICK)
    ended = equipoise("predict", "run", "--data", data, "--out", "p.csv")
    assert (ended.code, ended.err) == (0, "")
    assert ("adds to predicted" in ended.out) == (task == "regression")
    expected = result.predict(data)
    found = pd.read_csv(tmp_path / "p.csv", dtype={"id": str}, keep_default_na=False)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-6)
    if task == "multilabel":  # of which no examination is defined, so that these would do nothing
        ended = equipoise("diagnose", "run", "--quality", "--out", "d.html", "--overwrite")
        assert "--quality, --out, --overwrite: each sample of this run has several labels" in ended.err
        assert ended.code == 2


def test_parquet_needs_its_extra(
    run: Path, data: str, equipoise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = util.find_spec
    monkeypatch.setattr(table_file, "find_spec", lambda name: None if name == "pyarrow" else found(name))
    ended = equipoise("predict", run, "--data", data, "--out", "p.parquet")
    assert ended.code == 2
    assert "writing Parquet needs the package 'pyarrow': pip install 'equipoise[table]'" in ended.err
