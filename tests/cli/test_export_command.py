"""`equipoise export` as it is typed, of a run and of a folder that was passed on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

import equipoise as eq
from equipoise.training.export import export

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "diagnose_every": 0}


@pytest.fixture(scope="module")
def trained(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eq.fit(data, out=tmp_path_factory.mktemp("trained") / "run", **QUICK).run_dir


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_run(run: Path, equipoise: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = equipoise("export", "run", "--format", "pt2")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == "joint on two"
    assert lines[1].startswith("logits differ by at most ")
    assert lines[1].endswith(" on 30 validation samples (allowed: 0.0001)")
    assert lines[-1] == "run/exported.pt2"
    assert max(map(len, lines)) <= 80
    eq.load_run(run)  # the file in its folder changes nothing
    ended = equipoise("export", "run", "--format", "pt2")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "run/exported.pt2 exists; give --overwrite" in ended.err
    assert equipoise("export", "run", "--format", "pt2", "--overwrite").code == 0


def test_an_overwritten_run_keeps_no_model_of_the_one_before(run: Path, data: str, equipoise: Any) -> None:
    assert equipoise("export", "run").code == 0
    assert (run / "exported.safetensors").is_file()
    eq.fit(data, out=run, overwrite=True, **QUICK)
    assert not (run / "exported.safetensors").exists()


def test_a_folder_that_was_passed_on(run: Path, data: str, tmp_path: Path, equipoise: Any) -> None:
    result = eq.load_run(run)
    result.save_pretrained(tmp_path / "shared")
    shutil.rmtree(run)
    ended = equipoise("export", "shared", "--out", "new/m.safetensors")
    assert ended.code == 0
    assert "random samples" in ended.out
    with safe_open(tmp_path / "new" / "m.safetensors", framework="pt") as file:
        described = json.loads(file.metadata()["equipoise"])
    assert [one["name"] for one in described["inputs"]] == ["audio", "video"]
    ended = equipoise("predict", "shared", "--data", data, "--split", "val", "--out", "p.csv")
    assert (ended.code, ended.err) == (0, "")
    expected = eq.from_pretrained(tmp_path / "shared").predict(data, split="val")
    found = pd.read_csv(tmp_path / "p.csv")
    np.testing.assert_allclose(found["confidence"], expected["confidence"], atol=1e-5)


def test_a_difference_ends_in_one_line_without_a_file(
    run: Path, equipoise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    ended = equipoise("export", "run")
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "exported safetensors differs from the model by 0.0e+00 on 30 samples" in ended.err
    assert not (run / "exported.safetensors").exists()
