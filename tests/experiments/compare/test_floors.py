"""A model below its floor is marked and not ranked, unless that is asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import equipoise as eq
import synthetic
from equipoise.cli import main
from equipoise.cli.diagnose_command import _show
from equipoise.cli.tables import output_console
from equipoise.experiments.compare.floors import is_below, over_seeds
from equipoise.report.pages.examination import examination_page
from equipoise.training.measuring import floor as floor_module

BROKEN = """
import torch
from torch import nn
from equipoise.models import BalancedModel

class Constant(nn.Module):
    out_features = 4
    def __init__(self, width):
        super().__init__()
        self.net = nn.Linear(width, 4)
    def forward(self, x):
        return 0.0 * self.net(x)

class Model(BalancedModel):
    def __init__(self, shapes, classes):
        super().__init__()
        self.num_outputs = classes
        self.modalities = tuple(shapes)
        self.nets = nn.ModuleDict({m: Constant(shape[0]) for m, (shape, _) in shapes.items()})
        self.joint = nn.Linear(4 * len(shapes), classes)
    def encode(self, batch, only=None):
        inputs = getattr(batch, "inputs", batch)
        return {m: self.nets[m](inputs[m]) for m in self.modalities if only is None or m in only}
    def fuse(self, z):
        return self.joint(torch.cat([z[m] for m in self.modalities], dim=1))
    def encoder_module(self, modality):
        return self.nets[modality]

def build(shapes, classes):
    return Model(shapes, classes)
"""
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 32, "diagnose_every": 0, "workers": 1}
MARK = "does not beat a linear model on its own inputs"


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, int]:
    folder = tmp_path_factory.mktemp("floors")
    model, data = folder / "below_its_floor.py", synthetic.write(folder / "data").path
    model.write_text(BROKEN)
    measured = []
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        real = floor_module.measure_floor
        patch.setattr(floor_module, "measure_floor", lambda data: measured.append(data) or real(data))
        methods = ["joint", "unimodal:audio"]
        table = eq.compare(data, methods, seeds=3, out=folder / "out", model="below_its_floor:build", **QUICK)
    return folder / "out", table, len(measured)


def test_a_broken_model_is_marked_and_not_ranked(compared: tuple[Path, pd.DataFrame, int]) -> None:
    out, table, measured = compared
    assert measured == 1  # for six runs on the same splits
    assert table["below_floor"].all()
    assert table["rank"].isna().all()
    (reason,) = table.attrs["not_ranked_because"]
    assert MARK in reason
    assert "--rank-anyway" in reason
    floors = [json.loads(f.read_text())["floor"] for f in out.glob("runs/*/result.json")]
    assert len(floors) == 6
    alone = json.loads((out / "runs/unimodal-audio-seed0/result.json").read_text())["floor"]
    assert alone["own"]["score"] == alone["modalities"]["audio"]["score"] > 0.5
    assert table.loc["joint", "floor"] == floors[0]["joint"]["score"]


def test_the_pages_and_the_terminal_show_the_mark(
    compared: tuple[Path, pd.DataFrame, int], capsys: pytest.CaptureFixture[str]
) -> None:
    out, *_ = compared
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "below its floor" in page
    assert "do not beat linear models on their own inputs" in page
    folder = out / "runs" / "unimodal-audio-seed0"
    assert run("report", str(folder)) == 0
    assert MARK in (folder / "report.html").read_text(encoding="utf-8")
    found = eq.examine_run(folder, pictures=False)
    assert examination_page(found).statements[0].verdict == f"The run {MARK}."
    _show(output_console(), found)
    assert f"The run {MARK}." in capsys.readouterr().out


def test_it_is_ranked_on_request(
    compared: tuple[Path, pd.DataFrame, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(compared[0], out)
    config = str(out / "config.yaml")
    assert run("compare", "--config", config, "--out", str(out), "--resume", "--rank-anyway") == 0
    shown = capsys.readouterr().out
    assert "not ranked" not in shown
    assert "joint (below its floor)" in shown
    summary = json.loads((out / "summary.json").read_text())
    assert summary["ranked"] is True
    assert MARK in summary["ranked_despite"][0]
    assert {values["rank"] for values in summary["methods"].values()} >= {1}
    assert "ranked by request" in (out / "report.html").read_text(encoding="utf-8")


def test_a_method_is_below_its_floor_in_most_of_its_runs() -> None:
    def record(below: bool) -> dict[str, Any]:
        return {"floor": {"own": {"score": 0.8, "difference": 0.1, "below": below}}}

    half = over_seeds([record(True), record(False)])
    assert half == {"mean": 0.8, "difference": pytest.approx(0.1), "below": 1, "n": 2}
    assert not is_below({"floor": half})
    assert is_below({"floor": over_seeds([record(True), record(True), record(False)])})
    assert over_seeds([{}]) is None  # records of earlier versions
    assert not is_below({})
