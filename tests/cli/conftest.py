from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import synthetic
from equipoise.cli import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a dataset of two vector modalities."""
    return str(synthetic.write(tmp_path_factory.mktemp("data") / "two").path)


@pytest.fixture
def equipoise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Run a command in this process, in its own folder."""
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def run(*words: object) -> Ended:
            with pytest.raises(SystemExit) as ended:
                main([str(word) for word in words])
            out, err = capsys.readouterr()
            return Ended(int(ended.value.code or 0), out, err)

        yield run
        warnings.showwarning = shown
