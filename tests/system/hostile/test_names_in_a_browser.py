"""Names that are programs to a browser or a terminal, from the dataset to the pages: all stay texts.

They name the dataset and its folder, modalities, classes, samples, and in the records of a person who sent
them also the method, the model, options and why a run failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import equipoise as eq
from equipoise.cli import main
from equipoise.data import open_dataset
from equipoise.report import write_preview
from evidence import add_row
from headless import started

pytestmark = [pytest.mark.hostile, pytest.mark.browser, pytest.mark.matrix]  # it trains, for ten seconds
RUN = "window.ran=1"
NAMES = {
    "an element script": f"<script>{RUN}</script>",
    "the end of a script, and another one": f"</script><script>{RUN}</script>",
    "the end of an attribute, and a picture that fails": f'"><img src=x onerror={RUN}>',
    "the end of an attribute in single quotes": f"' onmouseover='{RUN}' style='position:fixed;inset:0",
    "a picture in SVG with a program": f"]]>--></style></title><svg onload={RUN}>",
    "an address that is a program": f"javascript:{RUN}",
    "a link that is a program, in Markdown": f"[x](javascript:{RUN})",
    "an expression of a template": "{{7*7}}${7*7}<%= 7*7 %>",
    "a formula of a spreadsheet": "=cmd|' /C calc'!A0",
    "a mark that turns the direction of writing": "mp3\u202egnp.exe",
    "escapes of a terminal": "\x1b[31mred\x1b]0;owned\x07",
}
TEXTS = list(NAMES.values())
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, a comparison, and the pages and figures of both, made by the commands."""
    folder = tmp_path_factory.mktemp("names")
    rng, count = np.random.default_rng(0), 11 * len(TEXTS)
    target = np.arange(count) % len(TEXTS)
    ids = [f"{TEXTS[n % len(TEXTS)]}{n}" for n in range(count)]
    place = folder / NAMES["the end of an attribute, and a picture that fails"].replace("/", "")
    data = eq.write_dataset(
        place,
        {name: target[:, None] + rng.normal(size=(count, 3)) for name in TEXTS[:4]},
        target,
        ids=ids,
        classes=TEXTS,
        name=TEXTS[1],
        licence=TEXTS[2],
        source=TEXTS[5],
    )
    write_preview(open_dataset(data.path))
    out = folder / "comparison"
    words = ["--epochs", "2", "--seeds", "2", "--diagnose-every", "1", "--workers", "1"]
    ended(["compare", "--data", str(place), "--methods", "joint", "ogm", *words, "--out", str(out)])
    rename(out)
    ended(["report", str(out), "--overwrite", "--figures", str(folder / "figures"), "--formats", "svg"])
    ended(["report", str(next((out / "runs").glob("*seed0"))), "--out", str(folder / "run.html")])
    return folder


def ended(words: list[str]) -> None:
    with pytest.raises(SystemExit) as found:
        main(words)
    assert not found.value.code


def rename(comparison: Path) -> None:
    """Write into the records what no command of ours would: the names of another person."""
    for file in [comparison / "summary.json", *comparison.glob("runs/*/result.json")]:
        held: Any = json.loads(file.read_text())
        held.pop("seals")
        held["dataset"], held["model"] = TEXTS[2], TEXTS[0]
        if "methods" in held:
            held["methods"][TEXTS[0]] = held["methods"].pop("ogm")
            held["not_ranked_because"] = TEXTS
        else:
            held["method_options"] = {name: name for name in TEXTS}
            held["environment"] |= {name: name for name in TEXTS}
            held["environment"]["versions"] |= {name: name for name in TEXTS}
            held["experimental"] = True
        file.write_text(json.dumps(held))
    rows = (comparison / "results.csv").read_text()
    cell = '"' + TEXTS[0].replace('"', '""') + '"'
    (comparison / "results.csv").write_text(re.sub(r'"?\bogm\b"?', lambda _: cell, rows))
    for config in comparison.glob("runs/*/config.yaml"):
        config.write_text(f"{config.read_text()}\nextra: {json.dumps(TEXTS)}\n")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as found:
        yield found


def pages(folder: Path) -> list[Path]:
    return [*sorted(folder.rglob("*.html")), *sorted(folder.rglob("*.svg"))]


def test_pages_and_charts_run_no_name(made: Path, browser: Any) -> None:
    found = pages(made)
    kinds = {path.suffix for path in found}
    assert kinds == {".html", ".svg"}
    assert len([path for path in found if path.suffix == ".html"]) >= 3
    failed = "a page was not opened"
    try:
        complaints = [what for path in found for what in opened(browser, path)]
        failed = "; ".join(complaints)[:300]
        assert complaints == []
    finally:
        for tries in NAMES:
            add_row(test=f"names: {tries}", kind="name in a page", tries=tries, said="", failed=failed)


def opened(browser: Any, path: Path) -> list[str]:
    """Open a page, move over it, follow its links within it; return all that should not be."""
    heard: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: heard.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    page.on("dialog", lambda dialog: heard.append(f"dialog: {dialog.message}") or dialog.dismiss())
    page.on("request", lambda request: _own(request.url, path) or heard.append(f"request: {request.url}"))
    page.goto(path.as_uri())
    if path.suffix == ".html" and page.locator("html[data-charts]").count():
        page.wait_for_selector("html[data-charts=drawn]", state="attached")
    for point in range(100, 900, 200):  # what waits for the mouse
        page.mouse.move(point, point)
    if page.evaluate("window.ran") is not None:
        heard.append("a name ran")
    addresses = page.eval_on_selector_all(
        "a, area, use, iframe, svg *",
        "els => els.map(e => e.getAttribute('href') || e.getAttribute('xlink:href') || '')",
    )
    heard += [f"link: {one}" for one in addresses if re.match(r"\s*(javascript|data|vbscript):", one, re.I)]
    handlers = "els => els.flatMap(e => [...e.attributes].map(a => a.name)).filter(n => n.startsWith('on'))"
    heard += [f"handler: {one}" for one in page.eval_on_selector_all("*", handlers)]
    heard += ["an element of a name"] * page.locator("img[src=x]").count()
    if found := CONTROLS.search(page.evaluate("document.documentElement.textContent")):
        heard.append(f"control character {found[0]!r}")
    context.close()
    return [f"{path.name}: {what}" for what in heard]


def _own(url: str, path: Path) -> bool:
    return url == path.as_uri() or url.startswith(("data:", "blob:"))


def test_a_page_that_is_not_careful_is_found(browser: Any, tmp_path: Path) -> None:
    for name in TEXTS[:6]:
        page = tmp_path / "page.html"
        text = (
            f"<meta charset=utf-8><p title='{name}' data-x=\"{name}\">{name}</p><a href='{name}'>{name}</a>"
        )
        page.write_text(text, encoding="utf-8")
        assert opened(browser, page), name


def test_the_terminal_gets_escapes_alone(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["compare", "--data", "DATA", "--methods", "joint", "--resume"], ["diagnose", "RUN"]):
        run = next((made / "comparison" / "runs").glob("*seed0"))
        places = {"DATA": str(made / "missing"), "RUN": str(run)}
        with pytest.raises(SystemExit):
            main([places.get(word, word) for word in words])
        shown = capsys.readouterr()
        assert not CONTROLS.search(shown.out + shown.err)
