"""All code blocks of the page on pretrained encoders run, in order and unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from equipoise.relearning.options import RELEARN_OPTIONS

PAGE = Path(__file__).parents[2] / "docs" / "pretrained.md"


def test_the_blocks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    parsers = [CodeBlockParser(language="python", evaluator=lambda example: None)]
    document = Document.parse(str(PAGE), *Sybil(parsers=parsers).parsers)
    names: dict[str, Any] = {"__name__": "page"}
    blocks = [str(example.parsed) for example in document.examples() if isinstance(example, Example)]
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    assert capsys.readouterr().out.count("learning state by purity") == 4
    layers = names["relearn"].history[0]["modalities"]["audio"]
    assert layers["applied"] > 0


ADVANCED = {"ema_decay", "redraw_seed", "redraw_with", "head_refit_steps"}
"""Options that only take effect together with another one; they are documented in `RelearnOptions`."""


@pytest.mark.parametrize("option", sorted(RELEARN_OPTIONS - ADVANCED))
def test_the_page_of_the_method_names_every_option(option: str) -> None:
    text = (PAGE.parent / "methods" / "diagnose-relearn.md").read_text(encoding="utf-8")
    assert f"`{option}`" in text
