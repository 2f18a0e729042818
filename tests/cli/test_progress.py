"""Progress without a terminal: a line now and then, and nothing in between."""

from __future__ import annotations

import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from equipoise.cli import prepare_command, progress
from equipoise.cli.progress import EpochBar


def lines_of(bar: EpochBar, written: StringIO, wanted: int) -> list[str]:
    """Return what the bar has written once it has that many lines, or after two seconds."""
    end = time.monotonic() + 2.0
    while written.getvalue().count("\n") < wanted and time.monotonic() < end:
        time.sleep(0.02)
    return written.getvalue().splitlines()


@pytest.mark.parametrize(("every", "expected"), [(0.0, "3 of 8 epochs (1 of 2 runs)"), (60.0, None)])
def test_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: float, expected: str | None) -> None:
    """One run of two epochs is finished; another has recorded one of six."""
    monkeypatch.setattr(progress, "INTERVAL", 0.02)
    monkeypatch.setattr(progress, "LINE_EVERY", every)
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    (one / progress.RESULT).write_text("{}")
    (two / progress.METRICS).write_text('{"event": "start"}\n{"event": "epoch", "epoch": 0}\n')
    written = StringIO()
    with EpochBar(Console(file=written)) as bar:
        bar.watch([(one, 2), (two, 6)])
        found = lines_of(bar, written, 1)
    assert found[:1] == ([expected] if expected else [])
    assert "" not in written.getvalue().splitlines()


def test_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    written = StringIO()
    monkeypatch.setattr(prepare_command, "progress_console", lambda: Console(file=written))
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    with prepare_command.ClipBar() as bar:
        bar.planned(10, 2)
        bar.advanced(3, 0)
        bar.advanced(4, 1)
    assert written.getvalue().splitlines() == ["5 of 10 samples", "9 of 10 samples (1 lost)"]
