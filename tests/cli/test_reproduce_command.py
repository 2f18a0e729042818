"""`equipoise reproduce`: a table and figures of small runs, resumed, and wrong use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import synthetic
from equipoise.experiments.paper.item import OURS, Case
from equipoise.experiments.paper.items import ITEMS

SMALL = ["--data-root", "sets", "--seeds", 1, "--epochs", 1, "--workers", 1, "--out", "out"]
METHODS = ("joint", OURS)


@pytest.fixture
def small(equipoise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command, with vectors as a set of the paper, and items of two methods."""
    synthetic.write(tmp_path / "sets" / "cremad")
    case = Case(data="cremad", settings={"encoder": "auto", "batch_size": 32, "lr": 0.05})
    for name in ("table1", "figure1", "figure3", "figure4"):
        cases = (replace(case, noise={"audio": 1.0} if name == "figure1" else {}),)
        monkeypatch.setitem(ITEMS, name, replace(ITEMS[name], paper=cases, methods=METHODS))
    return equipoise


def test_without_a_name_all_are_listed(equipoise) -> None:
    ended = equipoise("reproduce")
    assert ended.code == 0
    assert all(name in ended.out for name in ITEMS)


def test_a_table_and_what_the_original_protocol_would_change(small, tmp_path: Path) -> None:
    ended = small("reproduce", "table1", *SMALL, "--protocol", "original")
    assert ended.code == 0, ended.err
    assert "Table 1. Methods of balanced multimodal learning on audio and video, on CREMA-D" in ended.out
    page = (tmp_path / "out" / "table1.md").read_text(encoding="utf-8")
    for words in ("best on test (not honest)", "not ranked, because", "seeds 0;", "1 epoch;", "torch "):
        assert words in page
    table = pd.read_csv(tmp_path / "out" / "table1.csv").set_index("method")
    assert (
        table["best on test (not honest)"] >= table["mean"] - 1e-12
    ).all()  # the best epoch is at least as good
    assert not (tmp_path / "out" / "table1" / "cremad-augmented").exists()  # vectors have no augmentation
    assert r"\toprule" in (tmp_path / "out" / "table1.tex").read_text(encoding="utf-8")


def test_a_figure_and_resuming_it(small, tmp_path: Path) -> None:
    written(small, "figure4", tmp_path)
    numbers = (tmp_path / "out" / "figure4.csv").read_bytes()
    again = small("reproduce", "figure4", *SMALL)
    assert again.code == 2
    assert "resume it" in again.err
    (tmp_path / "out" / "figure4" / "cremad" / "runs" / "joint-seed0" / "result.json").unlink()
    again = small("reproduce", "figure4", *SMALL, "--resume")
    assert again.code == 0, again.err
    assert (tmp_path / "out" / "figure4.csv").read_bytes() == numbers


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["figure1", "figure3"])
def test_figures_that_measure_encoders_and_features(small, tmp_path: Path, name: str) -> None:
    written(small, name, tmp_path)
    noise = tmp_path / "out" / "sets" / "cremad-noise-audio-1" / "dataset.json"
    assert noise.is_file() == (name == "figure1")


def test_a_failed_run_is_named_and_the_rest_is_shown(small, tmp_path: Path, monkeypatch) -> None:
    (case,) = ITEMS["table1"].paper
    diverging = replace(
        case, methods=("joint", "multi-loss"), method_options={"multi-loss": {"weight": 1e38}}
    )
    monkeypatch.setitem(ITEMS, "table1", replace(ITEMS["table1"], paper=(diverging,)))
    ended = small("reproduce", "table1", *SMALL)
    page = (tmp_path / "out" / "table1.md").read_text(encoding="utf-8")
    assert (ended.code, "1 run failed" in ended.err) == (1, True), ended.err
    assert "multi-loss, seed 0, failed: " in page
    diverging = replace(case, settings={**case.settings, "lr": 1e30})
    monkeypatch.setitem(ITEMS, "table1", replace(ITEMS["table1"], paper=(diverging,)))
    ended = small("reproduce", "table1", *SMALL, "--overwrite")
    assert ended.code == 1
    assert "no run of cremad finished; the first one failed: " in ended.err


def written(small, name: str, folder: Path) -> None:
    """Reproduce a figure, and check its files."""
    ended = small("reproduce", name, *SMALL)
    assert ended.code == 0, ended.err
    assert (folder / "out" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert "CREMA-D" in (folder / "out" / f"{name}.svg").read_text(encoding="utf-8")
    assert "| " in (folder / "out" / f"{name}.md").read_text(encoding="utf-8")


def test_the_scheme_needs_no_data(equipoise, tmp_path: Path) -> None:
    ended = equipoise("reproduce", "figure2", "--out", "out")
    assert ended.code == 0, ended.err
    assert "re-learn" in (tmp_path / "out" / "figure2.svg").read_text(encoding="utf-8")


def test_an_ablation_without_a_folder_and_another_that_shares_its_runs(
    equipoise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, kept in (("ablation-ruler", "auxiliary head"), ("ablation-allocation", "uniform")):
        cases = ITEMS[name].cases(stand_in=True, quick=True)
        labels = ("joint", "default", kept)
        monkeypatch.setitem(
            ITEMS, name, replace(ITEMS[name], stand_in=[case for case in cases if case.label in labels])
        )
    quick = ["--quick", "--seeds", 2, "--epochs", 4, "--workers", 1, "--out", "out"]
    ended = equipoise("reproduce", "ablation-ruler", *quick)
    assert ended.code == 0, ended.err
    assert "Ablation ruler. By what the gap of a modality is measured, on HTAD (quick: 2 seeds" in ended.out
    table = pd.read_csv(tmp_path / "out" / "ablation-ruler.csv").set_index("variant")
    assert list(table.index) == ["joint", "default", "auxiliary head"]
    assert list(table["n"]) == [2, 2, 2]
    assert equipoise("reproduce", "ablation-allocation", *quick).code == 2
    result = tmp_path / "out" / "ablations" / "htad-default" / "runs" / "diagnose-relearn-plus-seed0"
    before = (result / "result.json").stat().st_mtime_ns
    ended = equipoise("reproduce", "ablation-allocation", *quick, "--resume")
    assert ended.code == 0, ended.err
    assert (result / "result.json").stat().st_mtime_ns == before
    other = pd.read_csv(tmp_path / "out" / "ablation-allocation.csv").set_index("variant")
    assert other.loc["default", "test"] == table.loc["default", "test"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table9"], "unknown table, figure or ablation 'table9'"),
        (["ablation-ruler", "--data-root", "."], "ablation-ruler runs on sets at hand; expected --stand-in"),
        (["table1"], "expected either --data-root DIR"),
        (["table1", "--data-root", "a", "--stand-in", "b"], "expected either --data-root DIR"),
        (["table1", "--stand-in", "gone"], "gone is no folder; expected that of the data: --stand-in DIR"),
        (["table1", "--stand-in", "."], "lacks avletters.npz, and table1 needs AVLetters"),
        (["table1", "--data-root", "."], "cremad holds no prepared dataset, and table1 needs CREMA-D"),
        (["figure5", "--data-root", ".", "--protocol", "original"], "figure5 is a figure"),
        (["table1", "--data-root", ".", "--epochs", "0"], "epochs is 0"),
    ],
)
def test_wrong_use_gives_one_line(equipoise, tmp_path: Path, words: list[str], message: str) -> None:
    ended = equipoise("reproduce", *words)
    assert ended.code == 2
    assert message in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
