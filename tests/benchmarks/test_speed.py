"""The measurement of speed: every line runs, and the page keeps what was not measured anew."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import equipoise as eq
import synthetic

FOLDER = Path(__file__).parents[2] / "benchmarks" / "speed"
CHEAP = ("g", "j")
"""Lines of which the trial takes about a second, without further processes."""


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The modules of the measurement."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("turns", "records", "page", "sets", "lines", "lines.c_relearning"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return {name: importlib.import_module(name) for name in ("turns", "records", "page")}


def measured(tmp_path: Path, *lines: str) -> str:
    page = tmp_path / "page.md"
    command = [
        sys.executable,
        str(FOLDER),
        *lines,
        "--quick",
        "--out",
        str(tmp_path / "out"),
        "--page",
        str(page),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    text = page.read_text(encoding="utf-8")
    for line in lines or "abcdefghijklmn":
        assert f"### ({line}) " in text
        record = json.loads(next((tmp_path / "out").glob(f"*/{line}.json")).read_text(encoding="utf-8"))
        assert record["ratios"] or record["table"] or record["missing"]
    return found.stdout


def test_cheap_lines_are_measured(tmp_path: Path) -> None:
    measured(tmp_path, *CHEAP)


@pytest.mark.matrix
def test_every_line_is_measured_and_an_interrupted_measurement_continues(tmp_path: Path) -> None:
    measured(tmp_path, *CHEAP)
    again = measured(tmp_path)
    assert again.count("measured before") == len(CHEAP)


def test_ratios_are_medians_of_rounds_and_compared_with_their_limit(parts: dict[str, ModuleType]) -> None:
    turn, ratio = parts["turns"].Turn, parts["turns"].Ratio
    one = [turn(2.0, 1.0), turn(9.0, 3.0), turn(6.0, 2.0)]
    other = [turn(1.0, 1.0), turn(3.0, 1.0), turn(4.0, 1.0)]
    found = ratio("growth", one, other, 1.0, expected=2.0, per=10).record()
    assert [found[key] for key in ("lowest", "ratio", "highest", "ratio_by_cpu")] == [0.75, 1.0, 1.5, 1.0]
    assert found["holds"]
    assert found["seconds"] == [0.6, 0.3]
    assert not ratio("gain", one, other, 2.1, at_least=True).record()["holds"]
    assert ratio("no limit", one, other).record()["holds"] is None


def test_works_take_turns(parts: dict[str, ModuleType]) -> None:
    done: list[str] = []
    works = {name: lambda name=name: done.append(name) for name in "ab"}
    found = parts["turns"].in_turn(works, 3)
    assert "".join(done) == "ab" + "ab" + "ba" + "ab"
    assert [len(turns) for turns in found.values()] == [3, 3]


def line(title: str, **ratio: object) -> dict[str, object]:
    row = {"what": "x / y", "ratio": 1.0, "lowest": 0.9, "highest": 1.1, "ratio_by_cpu": 1.0, "unit": " s"}
    row |= {"asked": 1.05, "at_least": False, "holds": True, "seconds": [1.0, 1.0], **ratio}
    return {"title": title, "load": 0.1, "took": 1, "ratios": [row], "table": [], "missing": {}, "notes": []}


def test_a_measurement_replaces_its_own_lines_only(tmp_path: Path, parts: dict[str, ModuleType]) -> None:
    place, page = parts["records"].Place, tmp_path / "page.md"

    def measure(machine: str, commit: str, **lines: dict[str, object]) -> str:
        records = parts["records"].Records(tmp_path / f"{machine}{commit}", place(machine, "torch 9", commit))
        for letter, found in lines.items():
            records.write(letter, found)
            assert records.has(letter)
        parts["page"].write_page(page, records)
        return page.read_text(encoding="utf-8")

    measure("old machine", "c1", a=line("Steps", ratio=1.23))
    measure("new machine", "c2", a=line("Steps", ratio=1.34, holds=False), b=line("Runs", ratio=1.45))
    text = measure("new machine", "c3", a=line("Steps", ratio=1.56))
    assert text.index("## new machine: torch 9") < text.index("## old machine: torch 9")
    assert text.count("### (a) Steps") == 2
    assert text.count("### (b) Runs") == 1
    assert all(number in text for number in ("1.23", "1.45", "1.56"))
    assert "1.34" not in text
    assert "2 of 2 limits hold." in text
    text = measure("new machine", "c4", b=line("Runs", ratio=1.67, holds=False))
    assert "1 of 2 limits hold. Not these: (b) x / y." in text
    assert measure("new machine", "c4") == text
    records = parts["records"].Records(tmp_path / "new machinec4", place("new machine", "torch 9", "c5"))
    assert not records.has("b")


def test_the_parts_of_a_relearning_are_where_they_are_timed(
    parts: dict[str, ModuleType], tmp_path: Path
) -> None:
    line = importlib.import_module("lines.c_relearning")
    assert all(callable(getattr(module, name)) for module, name in line.PARTS.values())
    with line.parts_timed() as spent:
        data = synthetic.write(tmp_path / "data", {"audio": (8,), "video": (6,)}, 120)
        eq.fit(data, "diagnose-relearn", epochs=2, method_options={"epochs": [0]}, diagnose_every=0)
    assert spent.keys() == line.PARTS.keys()
