"""Every code block of the documentation runs unchanged; commands that cannot run here are parsed instead."""

from __future__ import annotations

import re
import shlex
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclopts import CycloptsError

from equipoise.cli import build_app, main
from equipoise.cli.arguments import DEFAULT_DATA, settings_arguments
from equipoise.data.datasets import DATASETS
from equipoise.experiments.grid.planning import DEFAULT_METHODS, GROUPS
from equipoise.experiments.grid.vary import cells_of
from equipoise.methods import METHODS, create_method
from equipoise.training.option_text import from_options, parse_assignments, parse_varied
from equipoise.types import EquipoiseError
from page_blocks import PAGES, ROOT, Block, all_blocks, blocks, install
from processes import python

ELSEWHERE = {"docs/pretrained.md": "test_pretrained_page.py", "docs/tasks.md": "test_tasks_page.py"}
"""Pages whose Python blocks run in a separate test, which also checks their results."""
RUN = sorted({block.page for block in all_blocks("run")} - set(ELSEWHERE))
TO_PARSE = [
    *all_blocks("parse"),
    *(b for b in all_blocks("run") if b.page in ELSEWHERE and b.language != "python"),
]
PROGRAMS = re.compile(r"^\s*(\$ )?(equipoise|make|pip|python|pytest|git|import|from) ", re.MULTILINE)


@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_run_in_order(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(ROOT / page):
        if block.treatment == "file":
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
            if block.title == "pyproject.toml":
                install(tmp_path)
        elif block.treatment == "run" and block.language == "python":
            exec(compile("\n" * block.line + block.text, page, "exec"), names)
        elif block.treatment == "run":
            for command in block.commands:
                if command.startswith("equipoise ") and not (tmp_path / "pyproject.toml").exists():
                    run_here(command, str(block))
                else:
                    run(command, tmp_path, str(block))


def run_here(command: str, place: str) -> None:
    """Run a command of Equipoise in this process, where everything is already imported."""
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        main(shlex.split(command)[1:])
    assert ended.value.code == 0, f"{place}: {command}"


def run(command: str, folder: Path, place: str) -> None:
    """Run a command in a process that finds the packages of the folder."""
    program, *words = shlex.split(command)
    if program != "python":
        assert program in ("equipoise", "pytest"), f"{place}: {command}"
        words = ["-m", program, *words]
    done = python(*words, cwd=folder, PYTHONPATH=str(folder), XDG_CACHE_HOME=str(folder / "cache"))
    assert done.returncode == 0, f"{place}: {command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("block", TO_PARSE, ids=str)
def test_commands_that_are_not_run_are_valid(block: Block) -> None:
    commands = [part for command in block.commands for part in command.split("&&")]
    assert commands
    for command in commands:
        check_command(shlex.split(command, comments=True))


def check_command(words: list[str]) -> None:
    """Check that a command and its options exist, without running it."""
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    if program in ("torchrun", "srun"):
        program = next(word for word in rest if word == "equipoise")
        rest = rest[rest.index(program) + 1 :]
    if program == "equipoise":
        check_equipoise(rest)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert rest[0] in targets, f"make {rest[0]}: no such target"
    elif program == "pip":
        assert rest[0] == "install"
        assert "--editable" in rest
        assert rest.count("--constraint") == 0 or "constraints.txt" in rest
    else:
        assert (program, *rest[:1]) in {("git", "clone"), ("git", "lfs"), ("cd", *rest[:1])}, words


def check_equipoise(words: list[str]) -> None:
    """Parse the words like the command line, including methods and their options."""
    app = build_app()
    command, bound, *_ = app.parse_args(words, print_error=False, exit_on_error=False)
    assert callable(command)
    given = bound.arguments
    if words[0] == "prepare":
        assert words[1] in DATASETS
    if words[0] == "train" and (method := given.get("method", "joint")) in METHODS:
        create_method(method, parse_assignments(given.get("set") or [], "set"))
    if words[0] in ("train", "compare"):
        without = ("encoder_options", *(("data", "method_options") if words[0] == "compare" else ()))
        known = [
            argument.name for argument in settings_arguments(without)
        ]  # encoder options name files that do not exist here
        # The data of the command do not exist here, so that no recipe can be chosen for them.
        here = {"recipe": "vectors", "data": DEFAULT_DATA}
        from_options(here | {name: given[name] for name in known if name in given and name != "data"})
    if words[0] == "compare":
        # A method that the page itself defines is not known here.
        methods = [name for name in given.get("methods") or DEFAULT_METHODS if name in (*GROUPS, *METHODS)]
        data = [DEFAULT_DATA] * len(given.get("data") or [DEFAULT_DATA])
        varied = parse_varied(given.get("vary") or [])
        assert cells_of(data, {"recipe": "vectors"}, methods, [0], vary=varied)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--methd", "mla"],
        ["train", "--method", "mla", "--set", "ordr=[a, b]"],
        ["train", "--optimizer", "sgdx"],
        ["compare", "--vary", "lrr=0.1,0.2"],
        ["prepare", "cremad", "--source"],
        ["prepare", "cremas", "--source", "a"],
        ["prepare", "cremad", "--source", "a", "--picks", "even"],
    ],
    ids=" ".join,
)
def test_an_invalid_command_is_detected(words: list[str]) -> None:
    with pytest.raises((EquipoiseError, CycloptsError), match=r".+"):
        check_equipoise(words)


@pytest.mark.parametrize("block", all_blocks("configuration"), ids=str)
def test_configurations_use_existing_options(block: Block) -> None:
    options = yaml.safe_load(block.text)
    names = {f"--{name.replace('_', '-')}" for name in options}
    shown = described("compare")
    assert options["seeds"]
    assert not {name for name in names if name not in shown}


def described(command: str) -> str:
    from cyclopts.docs.markdown import generate_markdown_docs

    return generate_markdown_docs(build_app(), commands_filter=[command], generate_toc=False)


@pytest.mark.parametrize("block", all_blocks("diff"), ids=str)
def test_a_diff_matches_the_example_that_it_names(block: Block) -> None:
    named = re.search(r"`(examples/[a-z_]+\.py)`", block.before)
    assert named is not None, f"{block} names no example"
    lines = (ROOT / named[1]).read_text(encoding="utf-8").splitlines()
    source = [line.split("  # ")[0].strip() for line in lines]
    added = [line[1:].split("  # ")[0].strip() for line in block.text.splitlines() if line.startswith("+")]
    assert added
    place = -1
    for line in added:
        assert line in source[place + 1 :], f"{block}: {named[1]} lacks this line, in this order: {line}"
        place = source.index(line, place + 1)


def test_no_block_is_skipped() -> None:
    treated = Counter(block.treatment for block in all_blocks())
    fences = [
        line
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.lstrip().startswith(("```", "~~~"))
    ]
    assert 2 * treated.total() == len(fences)
    assert {block.page for block in all_blocks("file")} <= set(RUN)
    present = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert all(
        (Path(__file__).parent / test).is_file() for page, test in ELSEWHERE.items() if page in present
    )
    assert treated["inert"] <= 1
    assert treated["run"] >= 25
    assert treated["file"] >= 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_indented_blocks_contain_no_commands(page: Path) -> None:
    from markdown_it import MarkdownIt

    indented = [t.content for t in MarkdownIt().parse(page.read_text("utf-8")) if t.type == "code_block"]
    assert not [text for text in indented if PROGRAMS.search(text)]


def test_make_targets_named_in_the_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        (page.name, target)
        for page in PAGES
        for target in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 10
    assert not {pair for pair in named if pair[1] not in targets}


def test_the_first_page_of_the_site_shows_the_commands_of_the_readme() -> None:
    shown = [block.text for block in blocks(ROOT / "docs" / "index.md") if block.language == "console"]
    readme = [block.text for block in blocks(ROOT / "README.md")]
    assert shown
    assert all(text in readme for text in shown)
