"""`report_every`: the report of a comparison follows its runs, and never ends them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import equipoise as eq
from equipoise import api
from equipoise.experiments.compare.comparison import Comparison
from equipoise.types import EquipoiseWarning, UsageError

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 64, "diagnose_every": 0, "workers": 1}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Comparison, bool]]:
    """The text of each report, what it was made of, and whether the tables were there by then."""
    found: list[tuple[str, Comparison, bool]] = []
    write = api.write_comparison_report

    def noted(comparison: Comparison, path: Path) -> Path:
        write(comparison, path)
        tables = all((comparison.folder / name).exists() for name in ("results.csv", "summary.json"))
        found.append((path.read_text(), comparison, tables))
        return path

    monkeypatch.setattr(api, "write_comparison_report", noted)
    return found


def test_the_report_follows_the_runs(
    data: str, tmp_path: Path, written: list[tuple[str, Comparison, bool]]
) -> None:
    eq.compare(data, ["joint", "ogm"], seeds=2, out=tmp_path / "c", report_every=1, **QUICK)
    assert len(written) == 5  # one a run, and that of the finished comparison
    for count, (text, comparison, tables) in enumerate(written[:3], start=1):
        assert f"the comparison goes on: {count} of 4 runs have ended" in text
        assert len(comparison.results) == count
        assert not comparison.ranked
        assert not tables  # they say that a comparison is finished
    for text, comparison, tables in written[3:]:
        assert "goes on" not in text
        assert len(comparison.results) == 4
        assert tables
    # Accuracies of the runs so far are those of the runs.
    first = written[0][1].results.iloc[0]
    assert first["test_accuracy"] == eq.load_run(tmp_path / "c/runs/joint-seed0").test["accuracy"]
    assert written[0][1].summary["seeds"] == [0]


def test_it_is_written_after_every_few_runs_also_where_some_fail(
    data: str, tmp_path: Path, written: list[tuple[str, Comparison, bool]]
) -> None:
    options = {"diagnose-relearn": {"epochs": [0], "target": str(tmp_path / "missing.safetensors")}}
    eq.compare(
        data,
        ["diagnose-relearn", "joint"],
        seeds=2,
        method_options=options,
        out=tmp_path / "c",
        report_every=3,
        **QUICK,
    )
    said = [re.findall(r"\d of \d runs have ended", text) for text, *_ in written]
    assert [found[0] if found else "" for found in said] == ["3 of 4 runs have ended", "", ""]


def test_a_report_that_fails_does_not_end_the_comparison(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = api.write_comparison_report, []

    def fails_at_first(comparison: Comparison, path: Path) -> Path:
        calls.append(path)
        if len(calls) <= 2:
            raise OSError(28, "No space left on device")
        return write(comparison, path)

    monkeypatch.setattr(api, "write_comparison_report", fails_at_first)
    with pytest.warns(EquipoiseWarning, match="could not be brought up to date .*No space left") as caught:
        table = eq.compare(data, ["joint"], seeds=2, out=tmp_path / "c", report_every=1, **QUICK)
    assert len([one for one in caught if "up to date" in str(one.message)]) == 1
    assert table.loc["joint", "n"] == 2
    assert (tmp_path / "c/report.html").is_file()


def test_less_than_one_run_is_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="report_every is 0; expected a whole number of runs"):
        eq.compare(data, ["joint"], seeds=1, out=tmp_path / "c", report_every=0, **QUICK)
    assert not (tmp_path / "c").exists()
