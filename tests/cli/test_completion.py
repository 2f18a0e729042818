"""Completion, asked of the shells themselves, and what its installation writes."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.catalogue import list_datasets, list_methods
from equipoise.cli import COMMANDS
from equipoise.cli.completion.script import SHELLS, script

CASES = [
    ("equipoise train --logger tensorboard ", {"csv", "mlflow"}, {"runs/"}),
    ("equipoise export run --format ", {"onnx", "pt2"}, {"runs/"}),
    ("equipoise co", {"compare"}, {"train", "runs/"}),
    ("equipoise list ", {"methods", "datasets", "models", "recipes", "metrics"}, {"runs/"}),
    ("equipoise prepare cmu", {"cmu-mosi", "cmu-mosei"}, {"cremad"}),
    ("equipoise train --opti", {"--optimizer"}, {"--out"}),
    ("equipoise train --optimizer ", {"sgd", "adamw"}, {"runs/"}),
    ("equipoise train --method ", set(list_methods()), {"runs/"}),
    ("equipoise compare --methods joint ogm", {"ogm", "ogm-ge"}, {"opm"}),
    ("equipoise compare --data ", {*list_datasets(), "runs/"}, {"some.yaml"}),
    ("equipoise compare --data htad ", {*list_datasets(), "runs/"}, {"some.yaml"}),
    ("equipoise compare --methods joint --epochs ", set(), {"dgl", "ogm"}),
    ("equipoise train --config so", {"some.yaml"}, {"runs/"}),
    ("equipoise report ru", {"runs/"}, {"some.yaml"}),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The script of each shell, in the folder where words are completed."""
    folder = tmp_path_factory.mktemp("scripts")
    found = {shell: folder / f"_{shell}" / "_equipoise" for shell in SHELLS}
    for shell, file in found.items():
        file.parent.mkdir()
        file.write_text(script(shell), encoding="utf-8")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "some.yaml").touch()
    (tmp_path / "runs").mkdir()
    return tmp_path


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


def of_bash(line: str, file: Path, folder: Path) -> set[str]:
    words = [*line.split(" ")]
    asked = f"""
        . {shlex.quote(str(file))}
        COMP_WORDS=({" ".join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}
        $(complete -p equipoise | sed 's/.*-F \\([^ ]*\\).*/\\1/') 2>/dev/null
        for word in "${{COMPREPLY[@]}}"; do [ -d "$word" ] && word="${{word%/}}/"; echo "${{word% }}"; done
    """
    ended = subprocess.run(["bash", "-c", asked], cwd=folder, capture_output=True, text=True, check=False)
    assert not ended.stderr
    return set(ended.stdout.splitlines())


def of_fish(line: str, file: Path, folder: Path) -> set[str]:
    asked = f"source {shlex.quote(str(file))}; complete -C {shlex.quote(line)}"
    environment = {**os.environ, "HOME": str(folder)}
    ended = subprocess.run(
        ["fish", "--no-config", "-c", asked],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return {row.split("\t")[0] for row in ended.stdout.splitlines()}


ZSH = (
    "PS1='$ '; setopt no_auto_menu no_list_beep; fpath=({folder} $fpath); autoload -Uz compinit; "
    "compinit -u -D; autoload -Uz _equipoise; compdef _equipoise equipoise; print REA''DY"
)


def of_zsh(line: str, file: Path, folder: Path) -> set[str]:
    """Return the words on the screen after Tab was pressed: zsh completes in a terminal only."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "COLUMNS": "120"})
    try:
        os.write(terminal, (ZSH.format(folder=shlex.quote(str(file.parent))) + "\n").encode())
        _read_until(terminal, r"READY\r\n.*\$ ")
        os.write(terminal, f"{line}\t\t\x15print DONE\n".encode())
        return set(_read_until(terminal, r"DONE\r\n").split())
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)


def _read_until(terminal: int, pattern: str) -> str:
    seen, end = "", time.monotonic() + 60
    while not re.search(pattern, seen, re.DOTALL):
        assert time.monotonic() < end, seen
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x07", " ", seen)


ASK: dict[str, Callable[[str, Path, Path], set[str]]] = {"bash": of_bash, "zsh": of_zsh, "fish": of_fish}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("line", "expected", "never"), CASES)
def test_a_shell_completes(
    shell: str, line: str, expected: set[str], never: set[str], scripts: dict[str, Path], folder: Path
) -> None:
    needs(shell)
    found = ASK[shell](line, scripts[shell], folder)
    assert expected <= found
    assert not never & found


def test_every_command_is_in_every_script(scripts: dict[str, Path]) -> None:
    for file in scripts.values():
        text = file.read_text(encoding="utf-8")
        assert [name for name in COMMANDS if not re.search(rf"\b{name}\b", text)] == []


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "a home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR", "SHELL"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.mark.parametrize(("shell", "start_up"), [("bash", ".bashrc"), ("zsh", ".zshrc"), ("fish", None)])
def test_an_installation_says_what_it_wrote_and_changes_nothing_when_repeated(
    shell: str, start_up: str | None, equipoise: Any, home: Path
) -> None:
    if start_up:
        (home / start_up).write_text("alias ll='ls -l'")  # no line end
    first = equipoise("--install-completion", shell)
    assert first.code == 0, first.err
    held = {file: file.read_text() for file in home.rglob("*") if file.is_file()}
    again = equipoise("--install-completion", shell)
    assert held == {file: file.read_text() for file in home.rglob("*") if file.is_file()}
    assert len(held) == 1 + bool(start_up)
    for file in held:
        assert str(file) in first.out
        assert str(file) in again.out
    assert "To undo it, delete " in first.out
    if start_up:
        lines = (home / start_up).read_text().splitlines()
        assert lines[0] == "alias ll='ls -l'"
        assert len(lines) == 2
        assert "added a line" in first.out
        assert "its line is already in" in again.out


def test_the_line_of_bash_reads_the_script(equipoise: Any, home: Path) -> None:
    equipoise("--install-completion", "bash")
    asked = ["bash", "--rcfile", str(home / ".bashrc"), "-ic", "complete -p equipoise"]
    ended = subprocess.run(asked, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert ended.stdout.rstrip().endswith(" equipoise"), ended.stderr


def test_the_line_of_zsh_turns_completion_on(equipoise: Any, home: Path) -> None:
    needs("zsh")
    equipoise("--install-completion", "zsh")
    read = f". {shlex.quote(str(home / '.zshrc'))}; print $_comps[equipoise]"
    asked = ["zsh", "-fc", read]
    ended = subprocess.run(asked, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert ended.stdout == "_equipoise\n", ended.stderr


def test_the_shell_is_that_of_the_user(equipoise: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = equipoise("--install-completion")
    assert unknown.code == 2
    assert unknown.err == (
        "equipoise: SHELL is not set; expected equipoise --install-completion bash, zsh or fish.\n"
    )
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert (
        str(home / ".config" / "fish" / "completions" / "equipoise.fish")
        in equipoise("--install-completion").out
    )
    shown = equipoise("--show-completion")
    assert shown.out == (home / ".config" / "fish" / "completions" / "equipoise.fish").read_text()


def test_a_home_that_cannot_be_written_is_one_line(equipoise: Any, home: Path) -> None:
    (home / ".local").write_text("a file")
    ended = equipoise("--install-completion", "bash")
    assert ended.code == 2
    assert ended.err.startswith(f"equipoise: cannot write {home / '.local'}")
    assert ended.err.endswith("; see equipoise --show-completion bash.\n")
    assert not (home / ".bashrc").exists()
