"""Ablations as tables: means and paired differences from records made by hand."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, stdev

import pandas as pd
import pytest
from scipy import stats

from equipoise.experiments.compare.comparison import COLUMNS, Comparison
from equipoise.experiments.grid.cell import Cell
from equipoise.experiments.paper.item import Case
from equipoise.experiments.paper.items import item_named
from equipoise.experiments.paper.plan import Choices, PlannedCase
from equipoise.experiments.paper.reproduce import Reproduction
from equipoise.report.paper import ablation
from equipoise.report.paper.write import write_reproduction
from equipoise.training.settings import Budget, Settings

TEST = {
    "joint": [0.60, 0.64, 0.66],
    "default": [0.70, 0.70, 0.75],
    "auxiliary head": [0.70, 0.73, 0.79],
}
FORWARD = {"joint": 1000, "default": 1500, "auxiliary head": 2000}
OPTIONS = {"auxiliary head": {"metric": "auxiliary-head"}}


def comparison(label: str, method: str, missing: int | None) -> Comparison:
    rows = [
        dict.fromkeys(COLUMNS)
        | {"dataset": "toys", "model": "concat(mlp)", "method": method, "seed": seed, "epochs": 3}
        | {"val_accuracy": value - 0.1, "test_accuracy": value, "forward_samples": FORWARD[label]}
        | {"status": "failed: it diverged" if seed == missing else "ok"}
        for seed, value in enumerate(TEST[label])
    ]
    summary = {"metric": "test_accuracy", "seeds": [0, 1, 2], "methods": {}, "not_ranked_because": []}
    return Comparison(Path("nowhere"), pd.DataFrame(rows), summary)


def made(missing: int | None = None) -> Reproduction:
    """Return an ablation on one set; the last variant lacks the seed `missing`."""
    settings, planned, compared = Settings(data="toys", budget=Budget(epochs=3)), [], {}
    for label in TEST:
        method = "joint" if label == "joint" else "diagnose-relearn-plus"
        options = {method: OPTIONS[label]} if label in OPTIONS else {}
        cell = Cell(label, settings, [method], range(3), options)
        planned.append(PlannedCase(Case(data="htad", label=label), "HTAD", f"HTAD, {label}", cell))
        compared[label] = comparison(label, method, missing if label in OPTIONS else None)
    return Reproduction(item_named("ablation-ruler"), Choices(), True, planned, compared)


def interval(values: list[float], base: list[float]) -> tuple[float, float, float]:
    """Student's 95 % interval of the mean difference, by its formula."""
    gaps = [value - other for value, other in zip(values, base, strict=True)]
    half = stats.t.ppf(0.975, len(gaps) - 1) * stdev(gaps) / math.sqrt(len(gaps))
    return fmean(gaps), fmean(gaps) - half, fmean(gaps) + half


def test_the_numbers_of_each_variant() -> None:
    table = ablation.frame(made()).set_index("variant")
    assert list(table.index) == list(TEST)
    for label, values in TEST.items():
        row = table.loc[label]
        assert (row["n"], row["test"], row["test_std"]) == (
            3,
            pytest.approx(fmean(values)),
            pytest.approx(stdev(values)),
        )
        assert row["validation"] == pytest.approx(fmean(values) - 0.1)
        for base in ("joint", "default"):
            found = [row[f"vs_{base}{end}"] for end in ("", "_low", "_high")]
            expected = interval(values, TEST[base]) if label != base else (0.0, 0.0, 0.0)
            assert found == pytest.approx(expected)
    assert table.loc["auxiliary head", "options"] == '{"metric": "auxiliary-head"}'


def test_differences_pair_the_seeds_that_both_finished() -> None:
    table = ablation.frame(made(missing=1)).set_index("variant")
    kept = [[values[0], values[2]] for values in (TEST["auxiliary head"], TEST["default"])]
    found = [table.loc["auxiliary head", f"vs_default{end}"] for end in ("", "_low", "_high")]
    assert found == pytest.approx(interval(*kept))
    assert table.loc["auxiliary head", "n"] == 2


def test_a_variant_that_changes_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEST, "auxiliary head", TEST["default"])
    cells = {column.head: column.entries for column in ablation.grid(made()).columns}
    assert cells["vs default [95 %]"]["auxiliary head"].text == "no effect"
    assert cells["vs joint [95 %]"]["auxiliary head"].text.startswith("+0.083 [")


def test_the_page(tmp_path: Path) -> None:
    page, *_ = write_reproduction(made(missing=1), tmp_path)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Ablation ruler. By what the gap of a modality is measured, on HTAD\n")
    head, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert head == "| variant | test | validation | vs joint [95 %] | vs default [95 %] | cost |"
    dash = "\N{EN DASH}"
    assert rows[0].split(" | ")[3:] == [
        dash,
        "\N{MINUS SIGN}0.083 [\N{MINUS SIGN}0.135, \N{MINUS SIGN}0.032]",
        "1.00 |",
    ]
    assert rows[1].startswith("| default | 0.717 \N{PLUS-MINUS SIGN} 0.029 | 0.617 | +0.083 [+0.032, +0.135]")
    assert rows[2].endswith("| 2.00 |")
    assert '- auxiliary head: `diagnose-relearn-plus` with `{"metric": "auxiliary-head"}`.' in text
    assert "- default: `diagnose-relearn-plus` with its defaults." in text
    assert "diagnose-relearn-plus, seed 1, failed: it diverged" in text
    assert (tmp_path / "ablation-ruler.csv").is_file()
    assert "variant & test" in (tmp_path / "ablation-ruler.tex").read_text(encoding="utf-8")
