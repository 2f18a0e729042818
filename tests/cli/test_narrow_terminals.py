"""What terminals of 80 and 120 columns show: whole words, and no line that they would break."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

import equipoise as eq
from equipoise.cli import list_command, tables
from equipoise.cli.tables import PlainConsole, listed, make_table, print_prose


def terminal(width: int) -> PlainConsole:
    return PlainConsole(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


def shown(console: PlainConsole) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    ("what", "facts"),
    [
        ("datasets", eq.list_datasets),
        ("models", eq.list_models),
        ("recipes", eq.list_recipes),
        ("metrics", eq.list_metrics),
        ("methods", eq.list_methods),
    ],
)
def test_a_list_breaks_no_word(
    what: str, facts: Callable[[], dict[str, Any]], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = terminal(width)
    monkeypatch.setattr(tables, "output_console", lambda: console)
    list_command.list_command(what, long=True)  # type: ignore[arg-type]
    text = shown(console)
    assert max(map(len, text.splitlines())) <= width
    held = text.split()
    for name, own in facts().items():
        told = " ".join(str(value) for value in own.values() if not isinstance(value, bool))
        missing = {word for word in f"{name} {told}".split() if len(word) < 30} - set(held)
        assert not missing, name


@pytest.mark.parametrize(
    ("width", "sentence", "is_table"),
    [(80, 10, True), (26, 10, True), (25, 10, False), (80, 60, True), (80, 130, False)],
)
def test_a_table_where_it_fits_and_facts_where_it_does_not(width: int, sentence: int, is_table: bool) -> None:
    """The longest words take 4 + 8 + 8 columns, each with 2 beside it."""
    words = " ".join(["measured"] * (sentence // 9 + 1))
    rows = [["mine", "measured", words], ["own", "", "no"]]
    console = terminal(width)
    console.print(listed(["name", "fact", "sentence"], rows, console))
    lines = [line.rstrip() for line in shown(console).splitlines()]
    assert (lines[0].split() == ["name", "fact", "sentence"]) is is_table
    if not is_table:
        assert lines[0] == "mine"
        assert lines[1].split() == ["fact", "measured"]
        assert lines[-2:] == ["own", "  sentence  no"]  # an empty fact has no line


def test_a_pipe_gets_the_table() -> None:
    console = PlainConsole(file=io.StringIO(), width=20)
    console.print(listed(["name", "fact"], [["a", "b " * 30]], console))
    other = PlainConsole(file=io.StringIO(), width=20)
    other.print(make_table(["name", "fact"], [["a", "b " * 30]]))
    assert shown(other) == shown(console)


def test_sentences_are_broken_between_words_in_a_terminal_only() -> None:
    text = "No modality stands out. " * 6 + "[bold]\x07"
    console = terminal(40)
    print_prose(console, text, indent=2)
    lines = shown(console).splitlines()
    assert max(map(len, lines)) <= 40
    assert all(line.startswith("  ") for line in lines)
    assert shown(console).split() == [*["No", "modality", "stands", "out."] * 6, r"[bold]\x07"]
    pipe = PlainConsole(file=io.StringIO(), width=40)
    print_prose(pipe, text, indent=2)
    assert shown(pipe) == f"  {text[:-1]}\\x07\n"
