"""Find the code blocks of the documentation, and decide what the tests do with each."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
PARSED = "<!-- parsed, not run -->"
"""Marks a command that cannot run in the tests because it needs data or network access."""
SHELLS = ("console", "bash")
INERT = ("text",)
"""Languages of blocks that are not code, such as folder layouts."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: path of the page, relative to the repository.
        line: number of its first line, starting at 1.
        language: first word after the opening fence.
        title: name of the file that it shows, or an empty string.
        text: its content.
        parsed: whether it is preceded by the marker `PARSED`.
        before: the paragraph before it.
    """

    page: str
    line: int
    language: str
    title: str
    text: str
    parsed: bool
    before: str

    @property
    def treatment(self) -> str:
        """What the tests do with the block; a block of an unknown type is an error."""
        if self.page == "README.md":
            return "readme"
        if self.language in SHELLS:
            return "parse" if self.parsed else "run"
        if self.language in ("python", "toml") and self.title and not self.parsed:
            return "file"
        known = {"python": "run", "diff": "diff", "yaml": "configuration", **dict.fromkeys(INERT, "inert")}
        if self.language not in known or self.title or self.parsed:
            raise AssertionError(
                f"{self.page}, line {self.line}: there is no test for a block {self.language!r}"
                f"{' with a title' * bool(self.title)}{' that is marked' * self.parsed}"
            )
        return known[self.language]

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, without the prompt."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """Return the fenced blocks of a page, in order."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    found = []
    for place, token in enumerate(tokens):
        if token.type != "fence":
            continue
        words = token.info.split(maxsplit=1) or [""]
        title = re.search(r'title="([^"]+)"', token.info)
        marked = place > 0 and tokens[place - 1].type == "html_block"
        parsed = marked and tokens[place - 1].content.strip() == PARSED
        before = next((t.content for t in reversed(tokens[:place]) if t.type == "inline"), "")
        name = page.relative_to(ROOT).as_posix()
        line = 0 if token.map is None else token.map[0] + 1
        found.append(Block(name, line, words[0], title[1] if title else "", token.content, parsed, before))
    return tuple(found)


def all_blocks(treatment: str | None = None) -> list[Block]:
    """Return the blocks of all pages, or only those with the given treatment."""
    return [b for page in PAGES for b in blocks(page) if treatment is None or b.treatment == treatment]


def install(folder: Path) -> None:
    """Register the entry points of the package in a folder, like `pip install --editable`."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    about = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    header = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (about / "METADATA").write_text(header, encoding="utf-8")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
