"""Names in files that others wrote are texts to the terminal and to the pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress
from rich.text import Text

from equipoise.cli.tables import PlainConsole, make_table, output_console, print_plain

ESCAPE = "\x1b[2J\x1b]0;owned\x07"


def test_tables_lines_and_progress_print_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    console = output_console()
    console.print(make_table([f"na{ESCAPE}me", "n"], [[f"au{ESCAPE}dio", "1"]], f"ti{ESCAPE}tle"))
    console.print(f"plain {ESCAPE}")
    print_plain(console, f"line {ESCAPE} [red]")
    out = capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x07"}
    assert out.count(r"\x1b[2J\x1b]0;owned\x07") == 4
    assert r"plain \x1b[2J\x1b]0;owned" in out
    assert "line" in out
    assert "[red]" in out


def test_a_terminal_gets_the_colours_of_the_console_alone() -> None:
    console = PlainConsole(force_terminal=True, color_system="standard", width=80)
    with console.capture() as captured:
        console.print(Text(f"name {ESCAPE}", style="bold red"))
        with Progress(console=console) as progress:
            progress.add_task(f"task {ESCAPE}", total=1)
    shown = captured.get()
    assert "\x1b[1;31mname" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b]0;" not in shown
    assert r"task \x1b[2J" in shown


def test_commands_and_pages_print_escapes(equipoise, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    target = np.arange(40) % 2
    arrays = {f"{split}_au{ESCAPE}dio": rng.normal(size=(40, 3)) for split in ("train", "val")}
    classes = [f"ca{ESCAPE}t", "dog"]
    np.savez(tmp_path / "features.npz", **arrays, train_labels=target, val_labels=target, classes=classes)
    ended = equipoise("diagnose", "--features", "features.npz")
    assert ended.code == 0, ended.err
    assert r"au\x1b[2J" in ended.out
    page = (tmp_path / "features.diagnosis.html").read_text(encoding="utf-8")
    assert r"au\x1b[2J" in page
    for shown in (ended.out, ended.err, page):
        assert not set(shown) & {"\x1b", "\x07"}

    ended = equipoise("diagnose", "--features", f"no{ESCAPE}.npz")
    assert ended.code == 2
    assert r"no\x1b[2J\x1b]0;owned\x07.npz does not exist" in ended.err
    assert "\x1b" not in ended.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "is not utf-8 text"),
        (b"lr: [1", "is not valid YAML"),
        (b"- " * 300, "is not valid YAML"),
        (b"a: &a [*a]", "nested more than 100 deep"),
        (b"3", "has no options"),
    ],
)
def test_a_damaged_configuration_is_named(equipoise, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    ended = equipoise("train", "--config", "c.yaml")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert message in ended.err
