"""The page on tasks: its tables agree with the code, and its code blocks run, in order and unchanged."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from equipoise.diagnosis.options import METRICS
from equipoise.methods import METHODS
from equipoise.tasks import EVERY_TASK, FIGURES
from equipoise.types import EquipoiseWarning

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tasks.md"


def test_the_tables_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("task_tables", ROOT / "benchmarks" / "task_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = PAGE.read_text(encoding="utf-8")
    assert text == module.written(text), "run: make task-tables"
    for name in (*FIGURES, *METRICS, *EVERY_TASK):
        assert f"`{name}`" in text
    listed = {name for name in METHODS if f"[{name}](methods/{name}.md)" in text}
    assert listed == {name for name in METHODS if METHODS[name].requires.tasks != {"classification"}}


def test_the_blocks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    parsers = [CodeBlockParser(language="python", evaluator=lambda example: None)]
    document = Document.parse(str(PAGE), *Sybil(parsers=parsers).parsers)
    names: dict[str, Any] = {"__name__": "page"}
    blocks = [str(example.parsed) for example in document.examples() if isinstance(example, Example)]
    assert len(blocks) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EquipoiseWarning)
        for block in blocks:
            exec(compile(block, PAGE.name, "exec"), names)
    assert names["run"].test["r2"] > 0.6
    assert (names["table"]["mean"] > 0.6).all()
    said = capsys.readouterr().out
    assert "the method 'ogm-ge' is defined for classification, and this is regression; choose dgl," in said
    assert "learning state by linear-map" in said
    assert (tmp_path / "comparison" / "results.csv").read_text(encoding="utf-8").count("\n") == 5
