"""Every code block of the README runs, in order, as it stands there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).resolve().parents[2]
INSTALLING = "pip install"
"""The block that installs is what sets up the environment of these very tests; running it would change it."""


def blocks(language: str) -> list[str]:
    parsers = [CodeBlockParser(language=language, evaluator=lambda example: None)]
    document = Document.parse(str(ROOT / "README.md"), *Sybil(parsers=parsers).parsers)
    return [str(example.parsed) for example in document.examples() if isinstance(example, Example)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as a fresh clone looks after the set-up."""
    clone = tmp_path_factory.mktemp("clone")
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "src"):
        (clone / name).symlink_to(ROOT / name)
    (clone / ".venv").symlink_to(Path(sys.prefix))
    before = Path.cwd()
    os.chdir(clone)
    yield clone
    os.chdir(before)


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_python_blocks_and_the_commands_on_their_data(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    python = blocks("python")
    assert len(python) == 4
    for block in python:
        exec(compile(block, "README.md", "exec"), names)
    out = capsys.readouterr().out
    assert "after epoch 4" in out
    assert "after epoch 12" in out
    assert "diagnose-relearn" in out
    assert "contribution by accuracy on validation" in out
    assert (folder / "diagnosis.html").is_file()
    commands = [block for block in blocks("bash") if INSTALLING not in block]
    assert len(commands) == 2
    for command in commands:
        ended = shell(command, folder)
        assert ended.returncode == 0, ended.stderr
    assert all((folder / "runs" / name / "report.html").is_file() for name in ("mine", "both", "mmtm"))


def test_the_two_commands(folder: Path) -> None:
    pytest.importorskip("multiviewstacking")
    (console,) = blocks("console")
    commands = [line.removeprefix("$ ") for line in console.splitlines()]
    assert len(commands) == 2
    if not (Path(sys.prefix) / ".demo").exists():
        # An environment that make did not set up: leave it alone, and run what make would run.
        commands[0] = shell("make --dry-run demo | sed -n '/equipoise compare/,$p'", folder).stdout
    for command in commands:
        ended = shell(command, folder)
        assert ended.returncode == 0, ended.stderr
    assert (folder / "runs" / "demo" / "report.html").is_file()
    assert "accelerometer" in ended.stdout


def test_no_block_is_of_another_kind() -> None:
    fences = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "```" in line]
    assert len(fences) == 2 * sum(len(blocks(language)) for language in ("python", "bash", "console"))


def test_the_block_that_installs_names_what_exists() -> None:
    installing = [block for block in blocks("bash") if INSTALLING in block]
    assert installing == ["pip install --constraint constraints.txt --editable '.[demo]'\n"]
    assert (ROOT / "constraints.txt").read_text().count("torch==2.13.0\n") == 1
