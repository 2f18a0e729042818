"""The site builds without warnings, is complete, works in a browser, and loads nothing from the network."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import equipoise as eq
from equipoise.cli import COMMANDS
from equipoise.cli.arguments import settings_arguments
from equipoise.data.datasets import DATASETS
from equipoise.data.datasets.from_source import SourceDataset
from equipoise.methods import METHODS

pytest.importorskip("mkdocs")
ROOT = Path(__file__).resolve().parents[2]
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*?\bsrc=\"?(?:https?:)?//[^>]*>"
    r"|<link\b(?=[^>]*\brel=\"?(?:stylesheet|icon|preconnect|preload|prefetch))[^>]*\bhref=\"?(?:https?:)?//[^>]*>"
    r"|@import|url\(\"?(?:https?:)?//"
)


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a checkout, strictly."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def read(site: Path, page: str) -> str:
    return (site / page).read_text(encoding="utf-8")


def test_a_page_outside_the_menu_a_broken_link_and_a_missing_anchor_stop_the_build(tmp_path: Path) -> None:
    for name in ("docs", "examples", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("src", "mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    config = yaml.load(read(tmp_path, "mkdocs.yml"), yaml.BaseLoader)
    config["plugins"] = ["awesome-nav"]  # building the reference is slow and not tested here
    (tmp_path / "mkdocs.yml").unlink()
    (tmp_path / "mkdocs.yml").write_text(
        yaml.safe_dump({**config, "strict": True, "use_directory_urls": False}), encoding="utf-8"
    )
    for page in (tmp_path / "docs" / "reference").glob("*.md"):
        page.write_text("# Empty\n", encoding="utf-8")
    (tmp_path / "docs" / "lost.md").write_text("# Lost\n", encoding="utf-8")
    links = "[a](../no.md) [b](ogm.md#no) [c](../../src/equipoise/api.py) [d](../../examples/pytorch.py)"
    (tmp_path / "docs" / "methods" / "zzz.md").write_text(f"# New\n\n{links}\n", encoding="utf-8")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "lost.md" in done.stderr
    assert "no.md" in done.stderr
    assert "anchor '#no'" in done.stderr
    assert "src/equipoise/api.py" in done.stderr
    assert "pytorch.py" not in done.stderr
    assert 'not included in the "nav"' in done.stderr
    assert "zzz.md\n" not in done.stderr.split('in the "nav"')[1].split("WARNING")[0]


def test_no_page_loads_external_resources(site: Path) -> None:
    pages = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(pages) > 80
    found = {path.name: FETCHED.findall(path.read_text(encoding="utf-8")) for path in pages}
    assert not {name: items for name, items in found.items() if items}


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://a.b/c.js">',
        '<link href="//a.b/c.css" rel="stylesheet">',
        "url(https://a.b/c.woff)",
    ],
)
def test_external_resources_are_detected(text: str) -> None:
    assert FETCHED.search(text)
    assert not FETCHED.search(
        '<a href="https://arxiv.org"> <link rel="next" href="a.html"> <img src="a.png">'
    )


def test_the_reference_describes_every_name(site: Path) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html"))
    assert not [name for name in eq.__all__ if f'id="equipoise.{name}"' not in text]
    index = read(site, "reference/index.html")
    assert not [name for name in eq.__all__ if f"#equipoise.{name}" not in index]
    assert not re.findall(r"^\s*:::", re.sub(r"<[^>]+>", "", text), re.MULTILINE)


NOT_SHARED = {("compare", "method"), ("compare", "seed")}  # `compare` has several of them


def test_the_commands_are_described_with_every_option(site: Path) -> None:
    text = read(site, "commands.html")
    parts = dict(
        re.findall(r'<h[23] id="equipoise-([a-z0-9-]+)"(.*?)(?=<h[23] |</article>)', text, re.DOTALL)
    )
    prepared = {f"prepare-{name}" for name, kind in DATASETS.items() if issubclass(kind, SourceDataset)}
    assert {*COMMANDS, *prepared} <= set(parts)
    for option in (argument.name for argument in settings_arguments()):
        shown = f"--{option.replace('_', '-')}"
        assert all(shown in parts[name] for name in ("train", "compare") if (name, option) not in NOT_SHARED)
    assert "--modalities-from" in parts["prepare-table"]


def test_every_method_dataset_and_example_has_its_page(site: Path) -> None:
    menu = read(site, "index.html")
    for name in METHODS:
        assert f"methods/{name}.html" in menu
    for name, kind in DATASETS.items():
        assert not issubclass(kind, SourceDataset) or f"datasets/{name}.html" in menu
    notebooks = read(site, "notebooks.html")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f">notebooks/{path.name}<" in notebooks
        assert f'id="{path.name.replace(".", "")}"' in notebooks
    examples = read(site, "examples.html")
    for path in (ROOT / "examples").glob("*.py"):
        assert f">{path.name}<" in examples


@pytest.mark.parametrize(
    ("path", "anchor", "origin", "shown", "target"),
    [
        (
            "../../CONTRIBUTING.md",
            "#a",
            "docs/extending/method.md",
            "extending/method.md",
            "../contributing.md#a",
        ),
        ("docs/methods/README.md", "", "CONTRIBUTING.md", "contributing.md", "methods/README.md"),
        ("../examples/pytorch.py", "", "docs/integrations.md", "integrations.md", "examples.md#pytorchpy"),
        ("../examples", "", "docs/start.md", "start.md", "examples.md"),
        ("../notebooks/a_b.ipynb", "", "docs/start.md", "start.md", "notebooks.md#a_bipynb"),
        ("../README.md", "", "docs/start.md", "start.md", "index.md"),
        ("../src/equipoise/api.py", "", "docs/start.md", "start.md", "../src/equipoise/api.py"),
        ("models.md", "#encoders", "docs/start.md", "start.md", "models.md#encoders"),
    ],
)
def test_links_to_files_outside_of_docs_become_links_to_pages(
    path: str, anchor: str, origin: str, shown: str, target: str
) -> None:
    script = ROOT / "docs" / "building" / "pages.py"
    spec = importlib.util.spec_from_file_location("site_pages", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.site_link(path, anchor, origin, shown) == target


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if os.environ.get("EQUIPOISE_NO_BROWSER"):
        pytest.skip("EQUIPOISE_NO_BROWSER is set")
    api = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.fail("Chromium not found: run 'make browser', or set EQUIPOISE_NO_BROWSER=1")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """The address of a local server for the built site."""
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "by_server"), [(1280, True), (390, True), (1280, False)])
def test_pages_and_search_work_without_network(
    browser: Any, site: Path, served: str, width: int, by_server: bool
) -> None:
    """On a desktop and on a phone, from a server and as files opened from the disk."""
    served = served if by_server else site.as_uri()
    context = browser.new_context(viewport={"width": width, "height": 800})
    page, complaints = context.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    # Leaving a page ends its open requests (the icon, mostly): they are aborted, and did not fail.
    page.on(
        "requestfailed",
        lambda request: None if request.failure == "net::ERR_ABORTED" else complaints.append(request.url),
    )
    page.on(
        "request",
        lambda request: None if request.url.startswith(served) else complaints.append(request.url),
    )
    for name, heading in (("index", "Equipoise"), ("methods/diagnose-relearn", "diagnose-relearn")):
        page.goto(f"{served}/{name}.html")
        assert page.locator("h1").inner_text().startswith(heading)
        pictures = "[...document.images].every(i => i.complete && i.naturalWidth)"
        page.wait_for_function(pictures)
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wider) <= 0
    page.goto(f"{served}/index.html")
    if width < 1000:
        page.locator(".md-header label.md-header__button[for=__search]").click()
    page.locator(".md-search__input").click()
    page.keyboard.type("prototypes")
    hit = page.locator(".md-search-result__link").first
    hit.wait_for(timeout=20000)
    hit.click()
    page.wait_for_url("**/methods/*.html*")
    assert not complaints
    context.close()


FAULTS = """() => {
    const width = document.documentElement.clientWidth, found = [];
    if (document.documentElement.scrollWidth > width + 1) found.push("the page is wider than the screen");
    if ([...document.querySelectorAll("article img")].some(one => one.complete && !one.naturalWidth))
        found.push("a picture is missing");
    for (const table of document.querySelectorAll("article table")) {
        const around = table.closest(".md-typeset__scrollwrap");
        if (!table.offsetWidth) continue;
        if (!around && table.getBoundingClientRect().right > width + 1) found.push("a table leaves the page");
        if (around && around.scrollWidth > around.clientWidth + 1
            && !getComputedStyle(around).backgroundImage.includes("gradient"))
            found.push("no shade shows that a table goes on");
    }
    return found;
}"""


@pytest.mark.browser
@pytest.mark.parametrize(
    ("pages", "width", "scheme"),
    [
        ("results/league.html", 390, "light"),
        *(
            pytest.param("**/*.html", width, scheme, marks=pytest.mark.matrix)
            for width in (390, 768, 1280)
            for scheme in ("light", "dark")
        ),
    ],
)
def test_pages_fit_the_screen_and_show_where_a_table_goes_on(
    browser: Any, site: Path, pages: str, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, complaints, found = context.new_page(), [], {}
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    paths = sorted(site.glob(pages))
    assert paths
    for path in paths:
        if path.name == "404.html":  # it is for a server: its addresses begin at the root
            continue
        complaints.clear()
        page.goto(path.as_uri())
        if faults := [*page.evaluate(FAULTS), *complaints]:
            found[str(path.relative_to(site))] = faults
    assert not found
    context.close()
