"""Progress without a terminal: a line now and then, and nothing in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from equipoise.cli import diagnose_command, prepare_command, progress, report_command
from equipoise.cli.progress import EpochBar, waiting
from equipoise.training.record.record import METRICS


@pytest.mark.parametrize(("every", "expected"), [(0.0, "1 of 6 epochs"), (60.0, None)])
def test_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: float, expected: str | None) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.02)
    monkeypatch.setattr(progress, "LINE_EVERY", every)
    (tmp_path / METRICS).write_text('{"event": "start"}\n{"event": "epoch", "epoch": 0}\n')
    written = StringIO()
    with EpochBar(Console(file=written), tmp_path, 6):
        end = time.monotonic() + 2.0
        while not written.getvalue() and time.monotonic() < end:
            time.sleep(0.02)
            if expected is None:
                break
    found = written.getvalue().splitlines()
    assert found[:1] == ([expected] if expected else [])
    assert "" not in found


@pytest.mark.parametrize(("every", "expected"), [(0.01, "measuring run: 0 min so far"), (60.0, None)])
def test_work_without_a_count(monkeypatch: pytest.MonkeyPatch, every: float, expected: str | None) -> None:
    written = StringIO()
    monkeypatch.setattr(progress, "progress_console", lambda: Console(file=written))
    monkeypatch.setattr(progress, "LINE_EVERY", every)
    with pytest.raises(ZeroDivisionError), waiting("measuring run"):
        time.sleep(0.1)
        raise ZeroDivisionError
    assert written.getvalue().splitlines()[:1] == ([expected] if expected else [])
    said = written.getvalue()
    time.sleep(0.05)
    assert written.getvalue() == said  # nothing goes on after the work


@pytest.mark.parametrize(
    "words", ["diagnose run", "diagnose --features no.npz", "report run", "prepare table --source no.csv"]
)
def test_every_long_command_says_what_it_is_doing(
    equipoise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """Each command enters the block that prints; here with an error in the work, which ends it."""
    said: list[str] = []

    @contextmanager
    def noted(doing: str) -> Iterator[None]:
        said.append(doing)
        yield

    for module in (diagnose_command, report_command, prepare_command):
        monkeypatch.setattr(module, "waiting", noted)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("epochs: 2\n")
    (tmp_path / "run" / "result.json").write_text('{"test": {}, "validation": {}, "seed": 0}')
    assert equipoise(*words.split()).code != 0
    assert said


def test_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    written = StringIO()
    monkeypatch.setattr(prepare_command, "progress_console", lambda: Console(file=written))
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    with prepare_command.ClipBar() as bar:
        bar.planned(10, 2)
        bar.advanced(3, 0)
        bar.advanced(4, 1)
    assert written.getvalue().splitlines() == ["5 of 10 samples", "9 of 10 samples (1 lost)"]
