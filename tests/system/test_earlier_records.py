"""Prepared data, runs and comparisons written by an earlier version can still be read.

The folder was written by version 0.1.0 before its modules moved; it is never rewritten.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import equipoise as eq
from equipoise.cli import main
from equipoise.training.record.predictions import read_predictions

EARLIER = Path(__file__).parents[1] / "support" / "earlier"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(EARLIER, tmp_path_factory.mktemp("earlier") / "earlier"))
    for config in folder.rglob("config.yaml"):  # records contain the full path of their data
        config.write_text(config.read_text().replace("data: set\n", f"data: {folder / 'set'}\n"))
    return folder


@pytest.fixture(autouse=True)
def inside(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(earlier)


def command(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code


def test_prepared_data() -> None:
    dataset = eq.open_dataset("set")
    assert len(dataset) == 90
    assert list(dataset.modalities) == ["audio", "video"]
    fingerprint = json.loads(Path("run/result.json").read_text())["data_fingerprint"]
    assert dataset.fingerprint == fingerprint


def test_a_run_with_its_weights_and_diagnoses() -> None:
    result = eq.load_run("run")
    kept = json.loads(Path("run/result.json").read_text())
    assert result.test == kept["test"]
    assert [event["audio"].applied is not None for event in result.relearnings] == [True, True]
    kept_weights = load_file("run/model.safetensors")
    weights = result.model.state_dict()
    present = {
        "encoder_list.0.": "encoders.audio.",
        "encoder_list.1.": "encoders.video.",
        "fusion.": "fusion.",
    }
    for name, value in kept_weights.items():
        start = next(start for start in present if name.startswith(start))
        assert torch.equal(weights.pop(name.replace(start, present[start])), value)
    assert not weights
    predictions = read_predictions("run")
    assert predictions is not None
    accuracy = np.mean(predictions["test"].predicted == predictions["test"].target)
    assert accuracy == pytest.approx(kept["test"]["accuracy"])


def test_a_run_is_diagnosed_and_reported() -> None:
    command("diagnose", "run")
    command("report", "run")


def test_a_finished_comparison_is_resumed_without_training() -> None:
    runs = {path: path.read_bytes() for path in Path("comparison/runs").rglob("*") if path.is_file()}
    before = pd.read_csv("comparison/results.csv")
    command("compare", "--config", "comparison/config.yaml", "--out", "comparison", "--resume")
    assert {path: path.read_bytes() for path in runs} == runs
    pd.testing.assert_frame_equal(pd.read_csv("comparison/results.csv"), before)
    assert Path("comparison/report.html").stat().st_size > 100_000


def test_a_run_without_inputs_of_its_own_predicts_as_long_as_its_data_are_there(
    earlier: Path, tmp_path: Path
) -> None:
    result = eq.load_run("run")
    assert not (result.run_dir / "inputs.safetensors").exists()
    held, dataset = read_predictions("run"), eq.open_dataset("set")
    assert held is not None
    table = result.predict({m: dataset.array(m) for m in dataset.modalities}).iloc[held["test"].index]
    names = np.array(result.summary["classes"])
    assert table["predicted"].tolist() == names[held["test"].predicted].tolist()
    total = table[["contribution:audio", "contribution:video"]].sum(axis=1)
    np.testing.assert_allclose(total, table["confidence"] - table["confidence:none"], atol=1e-6)
    lonely = Path(shutil.copytree("run", tmp_path / "run"))
    config = (lonely / "config.yaml").read_text()
    (lonely / "config.yaml").write_text(config.replace(str(earlier / "set"), str(tmp_path / "gone")))
    with pytest.raises(
        eq.RunFolderError, match=r"has no inputs\.safetensors, .*gone.*restore them, or train again"
    ):
        eq.load_run(lonely).predict("set")
    shutil.copytree("set", tmp_path / "gone")
    other = eq.write_dataset(
        tmp_path / "gone",
        {m: dataset.array(m)[:60] for m in dataset.modalities},
        dataset.target[:60],
        overwrite=True,
    )
    with pytest.raises(eq.RunFolderError, match="they have changed since, data_fingerprint"):
        eq.load_run(lonely).predict(other)
