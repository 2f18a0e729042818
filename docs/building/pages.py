"""MkDocs hooks: pages generated from files outside of `docs`, and links to such files."""

from __future__ import annotations

import ast
import json
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
"""Files of the repository that are shown unchanged as pages of the site."""
EXAMPLES, NOTEBOOKS = "examples.md", "notebooks.md"
ELSEWHERE = {**COPIED, "README.md": "index.md", "examples": EXAMPLES, "notebooks": NOTEBOOKS}
"""Maps files and folders of the repository to the pages that show them."""
ORDER = ("first_diagnosis", "comparing_cures", "embeddings_in_files")
"""The notebooks in the order to read them."""
COMMANDS = "<!-- the commands, from the code -->"
"""Placeholder for the generated command-line reference."""
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s:#]+)(?P<anchor>#[^)\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are generated from files outside of `docs`."""
    for source, page in COPIED.items():
        _add(files, config, page, (ROOT / source).read_text(encoding="utf-8"))
    _add(files, config, EXAMPLES, examples_page(ROOT / "examples"))
    _add(files, config, NOTEBOOKS, notebooks_page(ROOT / "notebooks"))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Rewrite links to files outside of `docs` so that they point to pages of the site."""
    shown = page.file.src_uri
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, commands())
    origin = next((source for source, target in COPIED.items() if target == shown), f"docs/{shown}")
    return LINK.sub(lambda link: site_link(link["path"], link["anchor"] or "", origin, shown), markdown)


def site_link(path: str, anchor: str, origin: str, shown: str) -> str:
    """Return the target of a link on the site. Targets that are not on the site are returned unchanged.

    Args:
        path: path of the link, relative to the file that contains it.
        anchor: `#` and the anchor, or an empty string.
        origin: path of that file in the repository.
        shown: path of its page inside `docs`.
    """
    target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
    if target in ELSEWHERE:
        target = ELSEWHERE[target]
    elif target.startswith("examples/"):
        target, anchor = EXAMPLES, f"#{posixpath.basename(target).replace('.', '')}"
    elif target.startswith("notebooks/"):
        target, anchor = NOTEBOOKS, f"#{posixpath.basename(target).replace('.', '')}"
    elif target.startswith("docs/") and not origin.startswith("docs/"):
        target = target.removeprefix("docs/")
    else:
        return path + anchor
    return posixpath.relpath(target, posixpath.dirname(shown) or ".") + anchor


def commands() -> str:
    """Return the reference of all commands and their options as Markdown, generated from the code."""
    from cyclopts.docs.markdown import generate_markdown_docs

    from equipoise.cli import build_app

    return generate_markdown_docs(build_app(), heading_level=2, no_root_title=True, generate_toc=False)


def examples_page(folder: Path) -> str:
    """Return a page with the source of every example, each with the first paragraph of its docstring."""
    parts = [
        "# Examples\n\nComplete scripts, each under a hundred lines and under a minute on a CPU. The tests "
        "run them unchanged.\n"
    ]
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        says = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
        parts.append(f"## {path.name}\n\n{says}\n\n```python\n{text}```\n")
    return "\n".join(parts)


def notebooks_page(folder: Path) -> str:
    """Return a page with the texts and the code of every notebook, in the order to read them."""
    parts = [
        "# Notebooks\n\nThey run in less than a minute each on a CPU, here or on Colab, and the tests run "
        "them unchanged. They are in the folder `notebooks` of the repository, without outputs: below is "
        "what they hold, and running one shows the tables and pictures.\n"
    ]
    for name in ORDER:
        path = folder / f"{name}.ipynb"
        if not path.is_file():
            continue
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for place, cell in enumerate(cells):
            text = "".join(cell["source"])
            if cell["cell_type"] == "code":
                parts.append(f"```python\n{text}\n```\n")
                continue
            # The picture of the badge would be fetched from the network.
            text = re.sub(r"^\[!\[.*\n\n?", "", text, flags=re.MULTILINE)
            text = re.sub(r"^(#+ )", r"#\1", text, flags=re.MULTILINE)
            if place == 0:
                title, _, rest = text.partition("\n")
                anchor = path.name.replace(".", "")
                text = f"{title} {{#{anchor}}}\n\n`notebooks/{path.name}`\n{rest}"
            parts.append(f"{text}\n")
    return "\n".join(parts)


def _add(files: Files, config: MkDocsConfig, page: str, text: str) -> None:
    files.append(File.generated(config, page, content=text, inclusion=InclusionLevel.UNDEFINED))
