"""All code blocks of the README run, in order and unchanged."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from processes import python

ROOT = Path(__file__).resolve().parents[2]
INSTALLING = "pip install"
"""Marks the installation block. It is not run: it would change the environment of these tests."""


def blocks(language: str) -> list[str]:
    parsers = [CodeBlockParser(language=language, evaluator=lambda example: None)]
    document = Document.parse(str(ROOT / "README.md"), *Sybil(parsers=parsers).parsers)
    return [str(example.parsed) for example in document.examples() if isinstance(example, Example)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder like a new clone after installation."""
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


@pytest.fixture(scope="module")
def trained(folder: Path) -> str:
    """The output of the Python blocks."""
    names: dict[str, Any] = {"__name__": "readme"}
    texts = blocks("python")
    assert len(texts) == 4
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in texts:
            exec(compile(block, "README.md", "exec"), names)
    return printed.getvalue()


def test_python_blocks(folder: Path, trained: str) -> None:
    assert "after epoch 4" in trained
    assert "after epoch 12" in trained
    assert "diagnose-relearn" in trained
    assert "contribution by accuracy on validation" in trained
    assert (folder / "diagnosis.html").is_file()


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("shortened", [True, pytest.param(False, marks=pytest.mark.matrix)])
def test_the_commands_on_the_data_of_the_python_blocks(folder: Path, shortened: bool) -> None:
    shutil.rmtree(folder / "runs", ignore_errors=True)
    commands = [block for block in blocks("bash") if INSTALLING not in block]
    assert len(commands) == 2
    for block in commands:
        if not shortened:
            ended = shell(block, folder)
            assert ended.returncode == 0, ended.stderr
            continue
        for line in block.splitlines():
            fewer = re.sub(r"--epochs \d+", "--epochs 2", re.sub(r"--seeds \d+", "--seeds 1", line))
            program, *words = shlex.split(fewer)
            assert program == "equipoise"
            few = ["--workers", 1] if words[0] == "compare" else []
            ended = python("-m", program, *words, *few, cwd=folder)
            assert ended.returncode == 0, ended.stderr
    assert all((folder / "runs" / name / "report.html").is_file() for name in ("mine", "both", "mmtm"))


def console() -> list[str]:
    """The commands of the console blocks, without the prompt."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines)
    return [line.removeprefix("$ ") for line in lines]


def test_the_first_commands_clone_and_then_do_all_the_setup(folder: Path) -> None:
    names = [command.split("#")[0].strip() for command in console()]
    assert names[:4] == ["git clone ADDRESS equipoise", "cd equipoise", "make demo", "make test"]
    # The tests cannot run themselves; make shows what it would run without running it.
    planned = shell("make --dry-run --always-make test", folder)
    assert planned.returncode == 0, planned.stderr
    steps = ("-m venv .venv", "'.[demo]'", "'.[demo,dev,", "ruff check", "lint-imports", "mypy", "-m pytest")
    places = [planned.stdout.find(step) for step in steps]
    assert min(places) >= 0, dict(zip(steps, places, strict=True))
    assert places == sorted(places)


@pytest.mark.parametrize(("seeds", "epochs"), [(1, 4), pytest.param(3, 60, marks=pytest.mark.matrix)])
def test_the_demo_and_the_diagnosis_of_one_of_its_runs(folder: Path, seeds: int, epochs: int) -> None:
    pytest.importorskip("multiviewstacking")
    out = folder / "runs" / "demo"
    shutil.rmtree(out, ignore_errors=True)
    demo, _, diagnose = console()[2:]
    assert demo.split("#")[0].strip() == "make demo"

    def demo_command() -> str:
        # The environment is that of these tests: make must not install this clone into it.
        demo = f"make demo --assume-old .venv/.demo SEEDS={seeds} EPOCHS={epochs}"
        if (Path(sys.prefix) / ".demo").exists():
            return demo
        # An environment that make did not create: do not change it, and run the commands that make would run.
        return shell(f"{demo} --dry-run | sed -n '/equipoise compare/,$p'", folder).stdout

    assert "--resume" not in shell("make --dry-run demo", folder).stdout  # there is nothing to resume
    for command in (demo_command(), diagnose):
        ended = shell(command, folder)
        assert ended.returncode == 0, ended.stderr
    assert "accelerometer" in ended.stdout
    results = pd.read_csv(out / "results.csv")
    assert (results["status"] == "ok").all()
    assert len(results) == 10 * seeds
    assert set(results["dataset"]) == {"htad"}
    assert set(results["epochs"]) == {epochs}
    summary = json.loads((out / "summary.json").read_text())
    means = {method: values["mean"] for method, values in summary["methods"].items()}
    assert means["joint"] > 0.8
    assert means["unimodal:audio"] < means["joint"]
    assert means["unimodal:accelerometer"] < means["joint"]
    assert "diagnose-relearn" in (out / "report.html").read_text()
    command = demo_command()
    assert "--resume" in shell("make --dry-run demo", folder).stdout
    if seeds == 1:  # resuming takes as long as starting, and is the same for any number of seeds
        return
    again = shell(command, folder)  # all runs are finished
    assert again.returncode == 0, again.stderr
    pd.testing.assert_frame_equal(pd.read_csv(out / "results.csv"), results)


def test_there_are_no_other_kinds_of_blocks() -> None:
    fences = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "```" in line]
    assert len(fences) == 2 * sum(len(blocks(language)) for language in ("python", "bash", "console"))


def test_the_installation_block_names_existing_files_and_extras() -> None:
    installing = [block for block in blocks("bash") if INSTALLING in block]
    assert installing == ["pip install --constraint constraints.txt --editable '.[demo]'\n"]
    assert (ROOT / "constraints.txt").read_text().count("torch==2.13.0\n") == 1


def test_there_is_one_way_to_install_and_every_extra_is_listed_with_what_it_gives() -> None:
    start = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    assert next(block for block in blocks("bash") if INSTALLING in block) in start
    listed = re.findall(
        r"^\| ((?:`\w+`(?:, )?)+) \|", start.partition("| extra | gives |")[2].partition("\n\n")[0], re.M
    )
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert re.findall(r"\w+", " ".join(listed)) == list(extras)
