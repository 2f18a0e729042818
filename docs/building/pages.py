"""Hooks of the documentation site: pages made from files outside of `docs`, and links to such files."""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, InclusionLevel

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
COPIED = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files of the repository that are pages of the site as they are."""
EXAMPLES = "examples.md"
ELSEWHERE = {**COPIED, "README.md": "index.md", "examples": EXAMPLES}
"""File or folder of the repository to the page that shows it."""
COMMANDS = "<!-- the commands, from the code -->"
"""Place in a page that the description of the command line takes."""
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s:#]+)(?P<anchor>#[^)\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from files outside of `docs`."""
    for source, page in COPIED.items():
        _add(files, config, page, (ROOT / source).read_text(encoding="utf-8"))
    _add(files, config, EXAMPLES, examples_page(ROOT / "examples"))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links that leave `docs`, right where the page is read as a file, lead to pages of the site."""
    shown = page.file.src_uri
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, commands())
    origin = next((source for source, target in COPIED.items() if target == shown), f"docs/{shown}")
    return LINK.sub(lambda link: site_link(link["path"], link["anchor"] or "", origin, shown), markdown)


def site_link(path: str, anchor: str, origin: str, shown: str) -> str:
    """Return where a link leads on the site; a target that the site does not have is left as it is.

    Args:
        path: of the link, relative to the file it stands in.
        anchor: what follows the path, or an empty text.
        origin: path of that file in the repository.
        shown: path of its page inside `docs`.
    """
    target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
    if target in ELSEWHERE:
        target = ELSEWHERE[target]
    elif target.startswith("examples/"):
        target, anchor = EXAMPLES, f"#{posixpath.basename(target).replace('.', '')}"
    elif target.startswith("docs/") and not origin.startswith("docs/"):
        target = target.removeprefix("docs/")
    else:
        return path + anchor
    return posixpath.relpath(target, posixpath.dirname(shown) or ".") + anchor


def commands() -> str:
    """Return all commands with their options, as Markdown, from the application itself."""
    from cyclopts.docs.markdown import generate_markdown_docs

    from equipoise.cli import build_app

    return generate_markdown_docs(build_app(), heading_level=2, no_root_title=True, generate_toc=False)


def examples_page(folder: Path) -> str:
    """Return a page with the text of every example, each under its first sentence."""
    parts = [
        "# Examples\n\nWhole scripts, each under a hundred lines and under a minute on a CPU. The tests run "
        "them as they stand here.\n"
    ]
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        says = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
        parts.append(f"## {path.name}\n\n{says}\n\n```python\n{text}```\n")
    return "\n".join(parts)


def _add(files: Files, config: MkDocsConfig, page: str, text: str) -> None:
    files.append(File.generated(config, page, content=text, inclusion=InclusionLevel.UNDEFINED))
