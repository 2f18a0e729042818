"""The page in the system's Chromium: it is drawn without console messages and without network requests."""

import shutil

import numpy as np
import pytest

from equipoise.data import write_dataset
from equipoise.report import write_comparison_report, write_preview, write_report
from equipoise.report.html import write as write_page
from equipoise.report.pages.page import Fold, Page, Section
from headless import started

pytestmark = pytest.mark.browser
HOSTILE = "<b>%{x}</b>&lt;"
BREAKOUT = "</script></noscript><img src=x onerror=alert(1)>"
JOINT = [0.80, 0.81, 0.82]
LABELS = "#accuracy-0 .role-mark text:not([stroke])"
CURVES = "#curves-0 .mark-line path[stroke]"
TOOLTIP = "#vg-tooltip-element.visible"


def point_at(page, mark):
    """Move the mouse over a mark, and wait for its tooltip."""
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(TOOLTIP)


@pytest.fixture(scope="module")
def chromium():
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """Write a page, unless the same one was written for an earlier test."""
    folder, held = tmp_path_factory.mktemp("pages"), {}

    def path_of(key, write):
        if key not in held:
            held[key] = shutil.copy(write(), folder / f"{len(held)}.html")
        return held[key]

    return path_of


@pytest.fixture
def show(pages, make, once, tmp_path):
    """Open the report of a comparison."""

    def written(accuracies, own):
        return once(
            repr((accuracies, own)),
            lambda: write_comparison_report(make(accuracies, **own), tmp_path / "report.html"),
        )

    return lambda accuracies, **changes: pages(lambda own: written(accuracies, own), **changes)


@pytest.fixture
def show_across(pages, make, many, once, tmp_path):
    """Open the report of three datasets."""

    def write(_):
        held = [make(**many(k), dataset=name, name=name) for k, name in enumerate(("one", "two", "three"))]
        return write_report([comparison.folder for comparison in held], tmp_path / "across.html")

    return lambda **changes: pages(lambda own: once("across", lambda: write(own)), **changes)


@pytest.fixture
def pages(chromium):
    """Open a page; at the end nothing may have been logged or requested."""
    contexts, complaints = [], []

    def open_page(write, *, width=1280, scheme="light", javascript=True, **changes):
        path = write(changes)
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=javascript
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: _allowed(request.url, path) or complaints.append(request.url))
        page.goto(path.as_uri())
        if javascript:
            page.wait_for_selector("html[data-charts=drawn]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _allowed(url, path):
    return url == path.as_uri() or url.startswith(("data:", "blob:"))


@pytest.mark.parametrize("width", [390, 1280])
def test_charts_are_drawn_and_nothing_overflows(show, usual, width):
    page = show({**usual, "unimodal:a-rather-long-name-of-a-modality": JOINT}, width=width)
    plots = page.locator(".plot")
    assert plots.count() == 7
    for place in range(7):
        assert plots.nth(place).locator("svg.marks").count() == 1
    assert page.locator("#accuracy-0 .mark-symbol path").count() == 3 * 3
    assert page.locator("#accuracy-0 .mark-rect.role-mark path").count() == 3  # the means
    assert page.locator("#learning-0 .mark-line path[stroke]").count() == 2 + 2 * 3
    assert page.locator("#strength-0 .mark-rect.role-mark path").count() == 4
    assert page.evaluate("document.documentElement.scrollWidth") == width
    inside = "els => els.every(e => e.getBoundingClientRect().right <= innerWidth + 0.5)"
    assert page.eval_on_selector_all(".plot svg.marks", inside)


def test_a_preview_shows_its_pictures_without_network(pages, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (18, 2, 3, 8, 8), dtype=np.uint8)
    inputs = {"clip": frames, "imu": frames[:, :, 0, :, 0]}
    split = ["train", "val", "test"] * 6
    held = write_dataset(tmp_path / "set", inputs, np.arange(18) // 3 % 2, split)
    page = pages(lambda _: write_preview(held), javascript=False, width=390)
    loaded = "els => els.map(e => e.complete && e.naturalWidth)"
    assert page.eval_on_selector_all(".specimen img", loaded) == [18] * 6
    assert page.locator(".diagram svg").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_thirty_five_methods_fit(show, many, width, scheme):
    page = show(**many(), width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    room = "e => e.scrollWidth - e.clientWidth"
    if width == 1280:  # the whole table of results is visible
        assert page.locator("#summary .scroll").evaluate(room) <= 0
    apart = """els => { const boxes = els.map(e => e.getBoundingClientRect());
        return boxes.every((a, i) => boxes.every((b, j) => i === j || a.right <= b.left || b.right <= a.left
            || a.bottom <= b.top + 1 || b.bottom <= a.top + 1)); }"""
    assert page.eval_on_selector_all(LABELS, apart)


@pytest.mark.parametrize(("width", "scheme", "ink"), [(390, "dark", "232, 234"), (1280, "light", "29, 35")])
def test_the_diagram_is_complete_and_follows_the_colour_scheme(show_across, width, scheme, ink):
    page = show_across(width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    inside = """svg => { const box = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].map(e => e.getBoundingClientRect()).every(t =>
            t.left >= box.left && t.right <= box.right && t.top >= box.top && t.bottom <= box.bottom); }"""
    diagram = page.locator(".diagram svg")
    assert diagram.evaluate(inside)
    assert diagram.locator("text").count() >= 32
    size = "svg => Math.min(...[...svg.querySelectorAll('text')].map(e => e.getBoundingClientRect().height))"
    assert diagram.evaluate(size) >= 11
    joint = diagram.locator("text", has_text="joint").first
    assert ink in joint.evaluate("e => getComputedStyle(e).fill")
    assert page.locator(".part .plot svg.marks").count() >= 3


def test_labels_stay_inside_their_charts(show, usual):
    page = show(usual, width=390)
    script = """els => els.filter(e => e.textContent).every(e => {
        const t = e.getBoundingClientRect(), p = e.closest('.plot').getBoundingClientRect();
        return t.left >= p.left - 0.5 && t.right <= p.right + 0.5 && t.top >= p.top - 0.5
            && t.bottom <= p.bottom + 0.5; })"""
    assert page.eval_on_selector_all(".plot text", script)


def test_panels_are_side_by_side_only_on_wide_screens(show, usual):
    tops = "els => els.map(e => Math.round(e.getBoundingClientRect().top))"
    wide = show(usual, name="wide").eval_on_selector_all("#chart-learning figure", tops)
    narrow = show(usual, name="narrow", width=390).eval_on_selector_all("#chart-learning figure", tops)
    assert wide[0] == wide[1] < wide[2]
    assert narrow[0] < narrow[1] < narrow[2]


def test_charts_follow_the_colour_scheme_without_reload(show, usual):
    page = show(usual)
    axis = "getComputedStyle(document.querySelector('#accuracy-0 .role-mark text:not([stroke])')).fill"
    body = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(axis), page.evaluate(body)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    assert (page.evaluate(axis), page.evaluate(body)) == ("rgb(232, 234, 236)", "rgb(20, 24, 28)")
    assert light == ("rgb(29, 35, 41)", "rgb(253, 253, 252)")


def test_hostile_names_are_shown_unchanged(show):
    names = {"joint": JOINT, "diagnose-relearn": JOINT, HOSTILE: JOINT}
    page = show(names, modalities=(HOSTILE, "</script><script>alert(1)</script>"), scheme="dark")
    assert HOSTILE in page.locator(LABELS).all_text_contents()
    point_at(page, page.locator("#accuracy-0 .mark-symbol path").last)
    assert HOSTILE in page.locator(TOOLTIP).text_content()
    assert page.locator("main b").count() == 0


def test_legend_shows_and_hides_curves(show, usual):
    page = show(usual)
    lines = page.locator(CURVES)
    before = lines.count()
    assert before == 2
    button = page.get_by_role("button", name="joint", exact=True)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    page.wait_for_function(f"document.querySelectorAll({CURVES!r}).length < {before}")
    button.click()
    page.wait_for_function(f"document.querySelectorAll({CURVES!r}).length === {before}")


def test_printing_is_light_and_fits(show, usual, tmp_path):
    page = show(usual, scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    fill = page.evaluate(
        "getComputedStyle(document.querySelector('#accuracy-0 .role-mark text:not([stroke])')).fill"
    )
    assert fill == "rgb(29, 35, 41)"
    widths = page.eval_on_selector_all(".plot svg.marks", "els => els.map(e => e.clientWidth)")
    assert max(widths) <= 640  # A4 minus its margins
    assert page.locator("details.fold[open]").count() == page.locator("details.fold").count()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.fold[open]").count() == 0
    assert page.pdf(path=tmp_path / "report.pdf", format="A4").startswith(b"%PDF")


def test_without_javascript_text_tables_and_pictures_are_visible(show, usual):
    page = show(usual, javascript=False)
    assert page.get_by_text("No difference can be claimed.").is_visible()
    assert page.locator("#summary table").is_visible()
    assert page.locator(".plot:visible").count() == 0
    assert page.locator("#chart-accuracy .static.wide svg").is_visible()
    assert not page.locator("#chart-accuracy .static.narrow svg").is_visible()
    page.locator("#chart-strength summary").click()
    assert page.locator("#chart-strength table").is_visible()


@pytest.fixture
def show_drawings(pages, drawings, once, tmp_path):
    """Open a page with every chart of a diagnosis."""

    def write(names):
        charts = drawings(**names)
        section, fold = Section("A part", charts=charts[4:]), Fold("A fold", ["Words of the fold."])
        page = Page(kind="diagnosis", title="All charts", charts=charts[:4], sections=[section], folds=[fold])
        return write_page(page, tmp_path / "drawings.html")

    return lambda **changes: pages(lambda own: once(f"drawings {own!r}", lambda: write(own)), **changes)


BLOCKS = "h1, .statements, .chart > h2, .chart > h3, .caption, .legend, figure, .fold > summary"
LAYOUT = """selector => [...document.querySelectorAll(selector)].filter(e => e.checkVisibility()).map(e => {
    const b = e.getBoundingClientRect();
    return [e.tagName + ' ' + (e.id || e.className), b.left, b.top, b.right, b.bottom]; })"""


@pytest.mark.parametrize("javascript", [True, False])
def test_blocks_keep_their_order_and_neither_overflow_nor_overlap(show_drawings, javascript):
    orders = []
    for width in (1280, 390):
        page = show_drawings(width=width, javascript=javascript)
        blocks = page.evaluate(LAYOUT, BLOCKS)
        orders.append([name for name, *_ in blocks])
        assert len(blocks) > 20
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for place, (name, left, top, right, bottom) in enumerate(blocks):
            assert 0 <= left < right <= width + 0.5, name
            assert bottom > top, name
            for other, x0, y0, x1, y1 in blocks[place + 1 :]:
                apart = right <= x0 + 1 or x1 <= left + 1 or bottom <= y0 + 1 or y1 <= top + 1
                assert apart, (width, name, other)
    assert orders[0] == orders[1]


HOSTILE_NAMES = {"modalities": (HOSTILE, BREAKOUT), "classes": (HOSTILE, BREAKOUT, "c")}


@pytest.mark.parametrize("javascript", [True, False])
def test_hostile_names_of_classes_and_modalities_are_escaped(show_drawings, javascript):
    page = show_drawings(javascript=javascript, scheme="dark", **HOSTILE_NAMES)
    assert page.locator("main b, img[src=x]").count() == 0
    assert page.locator("script").count() == 2
    assert page.locator(".legend li", has_text=HOSTILE).count() >= 1
    where = "#states-0 .role-mark text" if javascript else "#chart-states .static.wide text"
    assert HOSTILE in page.locator(where).all_text_contents()
    if javascript:
        point_at(page, page.locator("#projections-0 .mark-symbol path").first)
        shown = page.locator(TOOLTIP).text_content()
        assert any(name in shown for name in (HOSTILE, BREAKOUT))


@pytest.mark.parametrize(("scheme", "ink"), [("light", "rgb(29, 35, 41)"), ("dark", "rgb(232, 234, 236)")])
def test_static_pictures_follow_the_colour_scheme_and_stay_legible(show_drawings, scheme, ink):
    page = show_drawings(width=390, scheme=scheme, javascript=False)
    shown = page.locator("#chart-states .static.narrow svg")
    assert shown.is_visible()
    label = shown.locator("text", has_text="audio").first
    assert label.evaluate("e => getComputedStyle(e).fill") == ink
    sizes = """els => els.filter(e => e.checkVisibility()).map(e => e.getBoundingClientRect())
        .map(b => Math.min(b.width, b.height))"""
    boxes = page.eval_on_selector_all(".static text", sizes)
    assert min(boxes) > 5


def test_thirty_methods_and_ten_seeds_stay_small(make, tmp_path):
    accuracies = {"joint": [0.8 + 0.001 * s for s in range(10)], "diagnose-relearn": [0.81] * 10}
    accuracies |= {f"method-{k}": [0.7 + 0.003 * k + 0.001 * s for s in range(10)] for k in range(28)}
    written = write_comparison_report(make(accuracies, epochs=60), tmp_path / "report.html")
    assert written.stat().st_size < 2.5e6
