"""What guides a reader: a contents list, colours with one meaning, and a hint where a table goes on."""

import re

import pytest

from equipoise.report import write_comparison_report
from equipoise.report.charts.look import INK, MODALITIES, MUTED, PALETTE
from equipoise.report.render import colors
from headless import started


@pytest.fixture
def page(make, usual, tmp_path):
    return write_comparison_report(make(usual), tmp_path / "report.html")


def test_the_contents_lead_to_every_chart(page):
    text = page.read_text(encoding="utf-8")
    contents = re.search(r'<nav aria-label="Contents">(.*?)</nav>', text, re.DOTALL)[1]
    listed = dict(re.findall(r'<a href="#([^"]+)">([^<]+)</a>', contents))
    charts = dict(re.findall(r'<section class="chart" id="([^"]+)">\n<h2>([^<]+)</h2>', text))
    assert len(charts) > 2
    assert listed == {**charts, "details": "Details"}


def test_no_colour_of_a_modality_means_something_else(page):
    """Keys of legends: a colour of modalities stands beside no method, and the other way round."""
    text = page.read_text(encoding="utf-8")
    keys = re.findall(r'style="color:(var\(--[^"]+\))"></i>([^<]+)<', text)
    by_label = {label: {color for color, name in keys if name == label} for _, label in keys}
    assert by_label["audio"] | by_label["video"] <= set(MODALITIES)
    assert by_label["diagnose-relearn"] <= set(PALETTE)
    assert by_label["joint"] == {INK}
    held = [colors()[color[4:-1]] for color in (*MODALITIES, *PALETTE, INK, MUTED)]
    assert len(set(held)) == len(held)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_shade_shows_where_a_table_goes_on(page, scheme, tmp_path):
    """At the right edge of a phone's screen, until the reader is at the end; there is none at the left."""
    from PIL import Image

    with started() as browser:
        shown = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme=scheme)
        shown.goto(page.as_uri())
        table = shown.locator("#summary .scroll").first

        def contrast():
            """How much the edges of the row above the table's lines differ from the middle."""
            table.screenshot(path=tmp_path / "table.png")
            grey = Image.open(tmp_path / "table.png").convert("L")
            line = [grey.getpixel((x, 3)) for x in range(grey.width)]
            return abs(line[1] - line[150]), abs(line[-2] - line[150])

        left, right = contrast()
        assert left <= 1
        assert right > 15
        table.evaluate("one => one.scrollLeft = one.scrollWidth")
        left, right = contrast()
        assert left > 15
        assert right <= 1
