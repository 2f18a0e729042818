"""There is one way to install Equipoise, and one to add an extra, wherever it is said."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from equipoise.types import MissingExtraError, how_to_add

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
INSTALL = "pip install --constraint constraints.txt --editable '.[demo]'"
SAID = re.compile(
    r"(?:python3? -m |\buv )?\bpip3? install\b[^`\n\"|)]*"
    r"|\b(?:uv|conda|mamba|poetry|pipx|pdm) (?:add|install|tool|sync)\b[^`\n]*"
)
TEXTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "constraints.txt", "docs/**/*.md", "src/**/*.py")
TEXTS += ("examples/*.py", "benchmarks/**/*.py", "notebooks/**/*.ipynb")
ELSEWHERE = {
    "pip install --editable .",  # a package of one's own, with a method or a dataset (docs/extending)
    # Beside a notebook, where the clone is the folder `source`; tests/system/test_notebooks.py compares it.
    "pip install --quiet --constraint source/constraints.txt --editable 'source[demo]'\\n",
    "pip install --force-reinstall {package}",  # a damaged package from another project
    "pip install 'equipoise[{extra}]'",  # how_to_add itself
}


def said() -> list[tuple[str, str]]:
    """Return every command that installs something, with its file."""
    files = sorted({file for pattern in TEXTS for file in ROOT.glob(pattern)})
    return [
        (file.relative_to(ROOT).as_posix(), found.group().strip(" .,;:'").removesuffix("' installs"))
        for file in files
        for found in SAID.finditer(file.read_text(encoding="utf-8"))
    ]


def test_every_text_installs_in_the_same_way() -> None:
    right = {INSTALL, *map(how_to_add, EXTRAS), *ELSEWHERE}
    stripped = {command.strip(" .,;:'") for command in right}
    found = said()
    assert [(file, command) for file, command in found if command not in stripped] == []
    assert {file for file, command in found if command == INSTALL.strip("'")} == {
        "README.md",
        "constraints.txt",
        "docs/start.md",
    }


def test_other_ways_would_be_found() -> None:
    for command in (
        "pip install equipoise",
        "pip3 install -e .",
        "python -m pip install '.[dev]'",
        "uv pip install equipoise",
        "uv add equipoise",
        "conda install equipoise",
        "pipx install equipoise",
    ):
        assert [found.group() for found in SAID.finditer(f"Run `{command}` now.")] == [command]


def test_an_error_names_the_command() -> None:
    assert how_to_add("media") == "pip install 'equipoise[media]'"
    assert str(MissingExtraError("av", "media", "video")).endswith(f": {how_to_add('media')}")


def test_errors_name_extras_that_exist() -> None:
    """Each extra that code names, as an argument or in a text, is one of the project's."""
    named = set()
    for file in ROOT.glob("src/**/*.py"):
        text = file.read_text(encoding="utf-8")
        named |= set(re.findall(r"(?:MissingExtraError|needing)\(\s*[^,]+,\s*\"(\w+)\"", text))
        named |= set(re.findall(r"equipoise\[(\w+)\]", text))
    assert {"demo", "media", "tune"} <= named
    assert named <= set(EXTRAS)
